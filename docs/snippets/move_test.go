package snippets_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/fixedport"
)

// servePlain serves with grpc-go.
func servePlain(ctx context.Context, address string, auth authv1.AuthServiceServer) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	authv1.RegisterAuthServiceServer(server, auth)
	context.AfterFunc(ctx, server.GracefulStop)
	return server.Serve(listener)
}

// promotePlain calls with grpc-go. Each API has a connection of its own.
func promotePlain(ctx context.Context, address, username string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err = authv1.NewAuthServiceClient(conn).PromoteToAdmin(ctx, &authv1.PromoteToAdminRequest{Username: username})
	return err
}

// serveMoved serves the same with Onecall.
func serveMoved(ctx context.Context, registry discovery.Registry, address string, auth authv1.AuthServiceServer) error {
	return framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth)
	}, framework.ListenOn(address))
}

// promoteMoved calls with Onecall. One bus is for all APIs, and the timeout is in the .proto.
func promoteMoved(ctx context.Context, bus *framework.Bus, username string) error {
	_, err := authv1.NewAuthServiceClient(bus).PromoteToAdmin(ctx, &authv1.PromoteToAdminRequest{Username: username})
	return err
}

// TestAServiceIsMovedBeforeItsCallers calls the service before and after, with both kinds of
// callers.
func TestAServiceIsMovedBeforeItsCallers(t *testing.T) {
	t.Parallel()
	address, release, err := fixedport.Reserve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = release() })
	users, byName := accounts()
	handler := &server{store: &store{users: users, byName: byName}}
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan error, 1)
	go func() { returned <- servePlain(ctx, address, handler) }()
	plain := func() {
		t.Helper()
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := authv1.NewAuthServiceClient(conn).PromoteToAdmin(t.Context(), &authv1.PromoteToAdminRequest{Username: "adam"}, grpc.WaitForReady(true)); err != nil {
			t.Error(err)
		}
		if err := promotePlain(t.Context(), address, "adam"); err != nil {
			t.Error(err)
		}
	}
	plain()
	cancel()
	if err := <-returned; err != nil {
		t.Error(err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	registry := memory.New()
	go func() { returned <- serveMoved(ctx, registry, address, handler) }()
	bus, err := framework.NewBus(registry)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	if err := bus.Ready(t.Context(), "auth"); err != nil {
		t.Error(err)
	}
	if err := promoteMoved(t.Context(), bus, "adam"); err != nil {
		t.Error(err)
	}
	plain()
	cancel()
	if err := <-returned; err != nil {
		t.Error(err)
	}
}
