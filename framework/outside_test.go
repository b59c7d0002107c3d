package framework_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
)

// TestPathsFromOutsideLeaveNothingBehind is about a gateway that forwards any path.
func TestPathsFromOutsideLeaveNothingBehind(t *testing.T) {
	registry := memory.New()
	bus := newBus(t, registry)
	before := runtime.NumGoroutine()
	const calls = 200
	for i := range calls {
		path := fmt.Sprintf("/ghost%d.v1.Service/Run", i)
		err := bus.Invoke(t.Context(), path, &emptypb.Empty{}, &emptypb.Empty{})
		if _, unknown := errors.AsType[*discovery.UnknownAPIError](err); !unknown || status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.NotSent {
			t.Fatalf("a call of a service that nobody serves = %v", err)
		}
		if _, err := bus.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, path); status.Code(err) != codes.Unimplemented {
			t.Fatalf("a stream of a service that nobody serves = %v", err)
		}
	}
	if kept := framework.Kept(bus); kept != 0 {
		t.Errorf("%d connections, routes, rules and watches are kept", kept)
	}
	if after := runtime.NumGoroutine(); after > before+calls/10 { // other tests' come and go
		t.Errorf("%d goroutines are left", after-before)
	}

	serve(t, registry, &echo{})
	ready(t, bus, "test.echo")
	_ = bus.Invoke(t.Context(), "/onecall.test.v1.EchoService/EchoSoon", &emptypb.Empty{}, &emptypb.Empty{})
	known := framework.Kept(bus)
	for i := range calls {
		err := bus.Invoke(t.Context(), fmt.Sprintf("/onecall.test.v1.EchoService/M%d", i), &emptypb.Empty{}, &emptypb.Empty{})
		if status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.Refused {
			t.Fatalf("a call of a method that no instance has = %v", err)
		}
	}
	if kept := framework.Kept(bus); kept != known {
		t.Errorf("of methods that a known service does not have %d routes are kept", kept-known)
	}
}

// TestACallOfAServiceThatIsNotLinkedInWaitsAsOthersDo is about a gateway that waits for
// the service, or for the registry.
func TestACallOfAServiceThatIsNotLinkedInWaitsAsOthersDo(t *testing.T) {
	t.Parallel()
	bus := newBus(t, &silent{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := bus.Invoke(ctx, "/ghost.v1.Service/Run", &emptypb.Empty{}, &emptypb.Empty{})
	if status.Code(err) != codes.DeadlineExceeded || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a call while the registry says nothing = %v", err)
	}

	registry := memory.New()
	bus = newBus(t, registry)
	ended := make(chan error, 1)
	go func() {
		ended <- bus.Invoke(t.Context(), "/ghost.v1.Service/Run", &emptypb.Empty{}, &emptypb.Empty{}, grpc.WaitForReady(true))
	}()
	serveAny(t, registry, func(apis grpc.ServiceRegistrar) {
		apis.RegisterService(&grpc.ServiceDesc{ServiceName: "ghost.v1.Service", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
			MethodName: "Run",
			Handler: func(srv any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
				request := new(emptypb.Empty)
				if err := decode(request); err != nil {
					return nil, err
				}
				return around(ctx, request, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/ghost.v1.Service/Run"},
					func(context.Context, any) (any, error) { return new(emptypb.Empty), nil })
			},
		}}}, 1)
	})
	if err := <-ended; err != nil {
		t.Errorf("a call that waits for its service = %v", err)
	}
}
