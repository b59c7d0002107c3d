package framework_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// plainInstance registers a plain gRPC server as an instance.
func plainInstance(t *testing.T, registry *memory.Registry) {
	t.Helper()
	address := plainServer(t, &echo{})
	if _, err := registry.Register(discovery.Instance{API: "test.echo", Address: address, State: discovery.Serving}); err != nil {
		t.Fatal(err)
	}
}

func TestRequireIdentityCallsNoInstanceWithoutAnIncarnation(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	plainInstance(t, registry)
	bus, conn := newBus(t, registry, framework.RequireIdentity()), dial(t, registry, framework.RequireIdentity())
	for shape, call := range shapes {
		t.Run(shape, func(t *testing.T) {
			err := call(t.Context(), bus, conn)
			var anonymous *framework.IdentityError
			if status.Code(err) != codes.FailedPrecondition || framework.OutcomeOf(err) != framework.NotSent || !errors.As(err, &anonymous) || anonymous.API != "test.echo" {
				t.Errorf("the call = %v, want FAILED_PRECONDITION, not sent", err)
			}
			for _, says := range []string{"has no incarnation", "RequireIdentity", "framework.Serve"} {
				if err != nil && !strings.Contains(err.Error(), says) {
					t.Errorf("the error %q does not say %q", err, says)
				}
			}
		})
	}
	// If some instances have an incarnation, only these are called.
	serveReady(t, registry, &echo{})
	identified := newBus(t, registry, framework.RequireIdentity())
	ready(t, identified, "test.echo")
	for range 10 {
		if _, err := testv1.NewEchoServiceClient(identified).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			t.Error(err)
		}
	}
}

func TestABusLogsOnceThatItCallsWithoutAnIdentity(t *testing.T) {
	t.Parallel()
	const text = "calls to an instance carry no identity"
	registry := memory.New()
	plainInstance(t, registry)
	plainInstance(t, registry)
	lines := new(testlog.Log)
	bus := newBus(t, registry, framework.Logger(lines.Logger()))
	conn := dial(t, registry)
	for range 3 {
		for shape, call := range shapes { // one of them needs connections of its own
			if err := call(t.Context(), bus, conn); err != nil && !errors.Is(err, io.EOF) && shape != "by name" {
				t.Errorf("%s = %v", shape, err)
			}
		}
	}
	if got := lines.Count(text); got != 1 {
		t.Errorf("there are %d lines that say so, want one", got)
	}
	served, none := memory.New(), new(testlog.Log)
	serveReady(t, served, &echo{})
	identified := newBus(t, served, framework.Logger(slog.New(slog.NewTextHandler(none, nil))))
	if _, err := testv1.NewEchoServiceClient(identified).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil || none.Count(text) != 0 {
		t.Errorf("a call with an identity = %v, %d lines", err, none.Count(text))
	}
}

func TestAnAsynchronousCallThatPanicsEndsWithAnError(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveReady(t, registry, &echo{})
	for name, fails := range map[string]func(){
		"a panic":               func() { panic("of an interceptor") },
		"a panic with an error": func() { panic(io.ErrUnexpectedEOF) },
		"a nil pointer":         func() { var none *echo; none.echo = nil },
		"runtime.Goexit":        runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bus := newBus(t, registry, intercepted(func(context.Context, *grpc.ClientConn, func(context.Context) error) error {
				fails()
				return nil
			}))
			call := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).EchoSoon, &testv1.EchoSoonRequest{})
			<-call.Done()
			for range 2 {
				reply, err := call.Await(t.Context())
				if reply != nil || status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.Unknown || !strings.Contains(err.Error(), "under incident ") || strings.Contains(err.Error(), "of an interceptor") {
					t.Errorf("Await = %v, %v, want INTERNAL with an incident and without the panic's text", reply, err)
				}
			}
		})
	}
}
