package auth_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/examples/auth"
	"github.com/onecall-dev/onecall/examples/auth/accounts"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
)

// called serves the API on a fresh store and returns a bus that is ready to call it.
func called(t *testing.T) (bus *framework.Bus, store string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "accounts.json")
	users, err := accounts.Open(path, bcrypt.MinCost, "adam")
	if err != nil {
		t.Fatal(err)
	}
	kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(users))
	})
	return kit.Bus(), path
}

// client returns a client of the API on a fresh store.
func client(t *testing.T) (client authv1.AuthServiceClient, store string) {
	t.Helper()
	bus, path := called(t)
	return authv1.NewAuthServiceClient(bus), path
}

func TestCheckPasswordKnowsTheAdmin(t *testing.T) {
	t.Parallel()
	client, _ := client(t)
	for _, test := range []struct {
		username, password string
		want               bool
	}{{"admin", "secret", true}, {"admin", "wrong", false}, {"adam", "secr3t", false}, {"nobody", "secret", false}} {
		t.Run(fmt.Sprintf("%q with %q", test.username, test.password), func(t *testing.T) {
			t.Parallel()
			reply, err := client.CheckPassword(t.Context(), &authv1.CheckPasswordRequest{Username: test.username, Password: test.password})
			if err != nil || reply.GetValid() != test.want {
				t.Errorf("CheckPassword = %v, %v, want %v", reply, err, test.want)
			}
		})
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
		t.Run(password, func(t *testing.T) {
			reply, err := client.CheckPassword(t.Context(), &authv1.CheckPasswordRequest{Username: "admin", Password: password})
			if err != nil || reply.GetValid() != want {
				t.Errorf("after a reset, %q is %v, %v, want %v", password, reply, err, want)
			}
		})
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

// TestEveryRPCAnswersAlikeByTypeAndByName reads the RPCs from the .proto, so that it
// includes all of them.
func TestEveryRPCAnswersAlikeByTypeAndByName(t *testing.T) {
	t.Parallel()
	bus, _ := called(t)
	client := authv1.NewAuthServiceClient(bus)
	adam := framework.Args{"username": "adam"}
	type try struct {
		args  framework.Args
		typed func(context.Context) (proto.Message, error)
	}
	tries := map[string][]try{
		"auth.check_password": {
			{framework.Args{"username": "admin", "password": "secret"}, func(ctx context.Context) (proto.Message, error) {
				return client.CheckPassword(ctx, &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"})
			}},
			{framework.Args{"username": "admin", "password": "guess"}, func(ctx context.Context) (proto.Message, error) {
				return client.CheckPassword(ctx, &authv1.CheckPasswordRequest{Username: "admin", Password: "guess"})
			}},
			{framework.Args{"username": "", "password": "guess"}, func(ctx context.Context) (proto.Message, error) {
				return client.CheckPassword(ctx, &authv1.CheckPasswordRequest{Password: "guess"})
			}},
		},
		"auth.get_user": {
			{adam, func(ctx context.Context) (proto.Message, error) {
				return client.GetUser(ctx, &authv1.GetUserRequest{Username: "adam"})
			}},
			{framework.Args{"username": "nobody"}, func(ctx context.Context) (proto.Message, error) {
				return client.GetUser(ctx, &authv1.GetUserRequest{Username: "nobody"})
			}},
		},
		"auth.promote_to_admin": {{adam, func(ctx context.Context) (proto.Message, error) {
			return client.PromoteToAdmin(ctx, &authv1.PromoteToAdminRequest{Username: "adam"})
		}}},
		"auth.reset_password": {{adam, func(ctx context.Context) (proto.Message, error) {
			return client.ResetPassword(ctx, &authv1.ResetPasswordRequest{Username: "adam"})
		}}},
	}
	described, err := bus.Describe(t.Context(), "auth")
	if err != nil {
		t.Fatal(err)
	}
	for _, rpc := range described.RPCs {
		if len(tries[rpc.Name]) == 0 {
			t.Errorf("%s is not tried", rpc.Name)
		}
		for _, try := range tries[rpc.Name] {
			byName, nameErr := bus.Call(t.Context(), rpc.Name, try.args)
			typed, typeErr := try.typed(t.Context())
			if typeErr != nil || nameErr != nil {
				if fmt.Sprint(nameErr) != fmt.Sprint(typeErr) || framework.OutcomeOf(nameErr) != framework.OutcomeOf(typeErr) ||
					!proto.Equal(status.Convert(nameErr).Proto(), status.Convert(typeErr).Proto()) {
					t.Errorf("%s(%v) by name = %v, by type %v", rpc.Name, try.args, nameErr, typeErr)
				}
				continue
			}
			got := byName.Message()
			if reset, ok := got.(*authv1.ResetPasswordResponse); ok { // each password is another
				checkPassword(t, bus, reset.GetPassword(), false)
				checkPassword(t, bus, typed.(*authv1.ResetPasswordResponse).GetPassword(), true)
				continue
			}
			if !proto.Equal(got, typed) {
				t.Errorf("%s(%v) by name = %v, by type %v", rpc.Name, try.args, got, typed)
			}
		}
	}
}

func checkPassword(t *testing.T, bus *framework.Bus, password string, want bool) {
	t.Helper()
	reply, err := bus.Call(t.Context(), "auth.check_password", framework.Args{"username": "adam", "password": password})
	if err != nil {
		t.Fatal(err)
	}
	var valid bool
	if err := reply.Into(&valid); err != nil || valid != want {
		t.Errorf("the password is right: %v (%v), want %v", valid, err, want)
	}
}
