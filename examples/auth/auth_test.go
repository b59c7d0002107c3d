package auth_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/examples/auth"
	"github.com/onecall-dev/onecall/examples/auth/accounts"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
)

// client serves the API on a fresh store and gives a client of it.
func client(t *testing.T) (authv1.AuthServiceClient, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "accounts.json")
	store, err := accounts.Open(path, bcrypt.MinCost, "adam")
	if err != nil {
		t.Fatal(err)
	}
	registry := memory.New()
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		returned <- framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
			authv1.RegisterAuthServiceServer(apis, auth.NewServer(store))
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-returned; err != nil {
			t.Error(err)
		}
	})
	conn, err := framework.Dial(registry, "auth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := conn.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return authv1.NewAuthServiceClient(conn), path
}

func TestCheckPasswordKnowsTheAdmin(t *testing.T) {
	t.Parallel()
	client, _ := client(t)
	for _, test := range []struct {
		username, password string
		want               bool
	}{{"admin", "secret", true}, {"admin", "wrong", false}, {"adam", "secr3t", false}, {"nobody", "secret", false}} {
		reply, err := client.CheckPassword(t.Context(), &authv1.CheckPasswordRequest{Username: test.username, Password: test.password})
		if err != nil || reply.GetValid() != test.want {
			t.Errorf("CheckPassword(%q, %q) = %v, %v, want %v", test.username, test.password, reply, err, test.want)
		}
	}
}

func TestResetPasswordReplacesTheOldOne(t *testing.T) {
	t.Parallel()
	client, _ := client(t)
	reset, err := client.ResetPassword(t.Context(), &authv1.ResetPasswordRequest{Username: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"secret": false, reset.GetPassword(): true} {
		reply, err := client.CheckPassword(t.Context(), &authv1.CheckPasswordRequest{Username: "admin", Password: password})
		if err != nil || reply.GetValid() != want {
			t.Errorf("after a reset, %q is %v, %v, want %v", password, reply, err, want)
		}
	}
}

func TestPromoteToAdminShowsInGetUser(t *testing.T) {
	t.Parallel()
	client, _ := client(t)
	before, err := client.GetUser(t.Context(), &authv1.GetUserRequest{Username: "adam"})
	if err != nil || before.GetUser().GetAdmin() || before.GetUser().GetId() == 0 || before.GetUser().GetUsername() != "adam" {
		t.Fatalf("GetUser = %v, %v", before, err)
	}
	promoted, err := client.PromoteToAdmin(t.Context(), &authv1.PromoteToAdminRequest{Username: "adam"})
	if err != nil || !promoted.GetUser().GetAdmin() {
		t.Fatalf("PromoteToAdmin = %v, %v", promoted, err)
	}
	after, err := client.GetUser(t.Context(), &authv1.GetUserRequest{Username: "adam"})
	if err != nil || !after.GetUser().GetAdmin() || after.GetUser().GetId() != before.GetUser().GetId() {
		t.Errorf("GetUser after it = %v, %v", after, err)
	}
}

func TestAnAbsentAccountIsNotFound(t *testing.T) {
	t.Parallel()
	client, _ := client(t)
	_, getErr := client.GetUser(t.Context(), &authv1.GetUserRequest{Username: "nobody"})
	_, promoteErr := client.PromoteToAdmin(t.Context(), &authv1.PromoteToAdminRequest{Username: "nobody"})
	_, resetErr := client.ResetPassword(t.Context(), &authv1.ResetPasswordRequest{Username: "nobody"})
	for _, err := range []error{getErr, promoteErr, resetErr} {
		if status.Code(err) != codes.NotFound || status.Convert(err).Message() != `no such account: username "nobody"` {
			t.Errorf("got %v, want NOT_FOUND that names the account", err)
		}
	}
}

func TestABrokenStoreStaysInside(t *testing.T) {
	t.Parallel()
	client, path := client(t)
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, checkErr := client.CheckPassword(t.Context(), &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"})
	_, getErr := client.GetUser(t.Context(), &authv1.GetUserRequest{Username: "admin"})
	for _, err := range []error{checkErr, getErr} {
		if status.Code(err) != codes.Internal || status.Convert(err).Message() != "the accounts could not be used" {
			t.Errorf("got %v, want INTERNAL that tells nothing", err)
		}
	}
}
