package framework_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/wire"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// TestAnInstanceThatShutsDownAnswersUntilItsHandlersHaveEnded cuts the connection of a call
// after grpc-go has stopped accepting connections, and the instance has left the registry.
func TestAnInstanceThatShutsDownAnswersUntilItsHandlersHaveEnded(t *testing.T) {
	t.Parallel()
	for way, serve := range map[string]func(*testing.T, *memory.Registry, *echo, *service, ...framework.ServeOption) (*wire.Proxy, func()){
		"over TCP": func(t *testing.T, registry *memory.Registry, e *echo, running *service, options ...framework.ServeOption) (*wire.Proxy, func()) {
			t.Helper()
			return serveBehindAs(t, registry, e, running, options...), func() {} // it leaves itself
		},
		"over a unix socket": serveSocketBehindAs,
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			answersUntilItsHandlersHaveEnded(t, serve)
		})
	}
}

func answersUntilItsHandlersHaveEnded(t *testing.T, serve func(*testing.T, *memory.Registry, *echo, *service, ...framework.ServeOption) (proxy *wire.Proxy, leave func())) {
	t.Helper()
	registry := memory.New()
	began, asked, goOn := make(chan struct{}, 1), make(chan struct{}, 10), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(goOn) })
	defer letGo()
	noteQuestion := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if info.FullMethod == onecallv1.Calls_Settle_FullMethodName {
			asked <- struct{}{}
		}
		return handler(ctx, req)
	}
	pass := func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return handler(srv, stream)
	}
	var running service
	proxy, leave := serve(t, registry, &echo{soon: func(context.Context, string) (string, error) {
		began <- struct{}{}
		<-goOn
		return "kept", nil
	}}, &running, framework.BeforeAdmission(noteQuestion, pass))
	_, instance := direct(t, registry)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	returned := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{})
	eventually.Receive(t, "the handler begins", began)

	idle := plainConn(t, proxy.Address())
	idle.Connect()
	eventually.True(t, "a connection", func() bool { return idle.GetState() == connectivity.Ready })
	stopped := make(chan error, 1)
	go func() { stopped <- running.stop() }()
	eventually.True(t, "the connections go away", func() bool { return idle.GetState() == connectivity.Idle })
	leave()
	proxy.Cut()
	select {
	case <-asked:
	case <-returned.Done():
		_, err := returned.Await(t.Context())
		t.Fatalf("the call ended without a question over a new connection: %v", err)
	}

	late := testv1.NewEchoServiceClient(plainConn(t, proxy.Address()))
	identity := atmostonce.Identity{Incarnation: instance.Incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1}
	if _, err := late.EchoSoon(identified(t.Context(), identity), &testv1.EchoSoonRequest{}); atmostonce.ReasonOf(err) != atmostonce.Draining {
		t.Errorf("a call that comes late = %v, want DRAINING", err)
	}
	if _, err := late.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a call without an identity = %v, want UNAVAILABLE", err)
	}
	letGo()
	if reply, err := returned.Await(eventually.Context(t)); err != nil || reply.GetText() != "kept" {
		t.Errorf("the call = %v, %v, want the reply that was lost", reply, err)
	}
	if err := eventually.Receive(t, "the end of the service", stopped); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// plainConn returns a connection without the framework to an address, or to the absolute path
// of a unix socket.
func plainConn(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	if filepath.IsAbs(address) {
		address = "unix:" + address
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
