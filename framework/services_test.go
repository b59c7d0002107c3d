package framework_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/grpctest"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// another is registered as an instance of test.echo that serves another proto service. It
// serves no API.
func another(t *testing.T, registry *memory.Registry) discovery.Registration {
	t.Helper()
	address := grpctest.Loopback(t, grpc.NewServer())
	return discoverytest.Register(t, registry, discovery.Instance{API: "test.echo", Address: address, Service: "onecall.test.v2.EchoService", Incarnation: discovery.NewIncarnation()})
}

func TestOfTwoServicesOfOneNameEachIsCalledForItsOwn(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	for range 2 {
		another(t, registry)
	}
	serve(t, registry, &echo{})
	serving(t, registry, 3)
	log := new(testlog.Log)
	bus := newBus(t, registry, framework.Logger(log.Logger()), framework.LoadBalancing("round_robin", ""))
	ready(t, bus, "test.echo")
	conn, err := framework.Dial(registry, "test.echo", quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for range 20 {
		if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			t.Error(err)
		}
		if _, err := bus.Call(t.Context(), "test.echo.echo_soon", framework.Args{"text": "x"}); err != nil {
			t.Error(err)
		}
		if _, err := testv1.NewEchoServiceClient(conn).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			t.Error(err)
		}
		stream, err := testv1.NewEchoServiceClient(bus).Watch(t.Context(), &testv1.WatchRequest{Count: 1})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Error(err)
		}
	}
	log.Until(t, "serves another service", 1)
	if lines := log.Count("serves another service"); lines != 1 {
		t.Errorf("%d lines tell of the other service", lines)
	}
}

func TestAnAPIOfWhichOnlyAnotherServiceIsServed(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	other := another(t, registry)
	bus := newBus(t, registry)
	call := func() error {
		_, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for from, err := range map[string]error{"a call": call(), "Ready": bus.Ready(ctx, "test.echo")} {
		t.Run(from, func(t *testing.T) {
			found, ok := errors.AsType[*framework.ServiceError](err)
			if !ok || found.Other != "onecall.test.v2.EchoService" || !strings.Contains(err.Error(), "build the caller from the .proto of the instances") {
				t.Errorf("%s = %v", from, err)
			}
		})
	}
	if err := call(); status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a call = %v", err)
	}
	running := serve(t, registry, &echo{})
	ready(t, bus, "test.echo")
	if err := call(); err != nil {
		t.Errorf("with an instance of the called service a call = %v", err)
	}
	if err := running.stop(); err != nil {
		t.Error(err)
	}
	serving(t, registry, 1)
	if err := call(); status.Code(err) != codes.Unavailable || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("after its last instance a call = %v, want UNAVAILABLE: the next may be about to start", err)
	}
	discoverytest.Close(t, other)
}

// TestAnRPCThatOnlyNewerInstancesHave is about a rolling deployment: one of three
// instances has the RPC, and it is picked last.
func TestAnRPCThatOnlyNewerInstancesHave(t *testing.T) {
	t.Parallel()
	for policy, config := range map[string]string{"onecall_least_request": "", "least_request_experimental": `{"choiceCount": 10}`, "round_robin": ""} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			older := testv1.EchoService_ServiceDesc
			older.Methods = nil
			for _, method := range testv1.EchoService_ServiceDesc.Methods {
				if method.MethodName != "EchoSoon" {
					older.Methods = append(older.Methods, method)
				}
			}
			var old, runs atomic.Int64
			for range 2 {
				serveAny(t, registry, func(apis grpc.ServiceRegistrar) { apis.RegisterService(&older, &echo{echo: counting(&old)}) })
			}
			serve(t, registry, &echo{soon: counting(&runs), echo: counting(&old)})
			serving(t, registry, 3)
			bus := newBus(t, registry, framework.LoadBalancing(policy, config))
			ready(t, bus, "test.echo")
			client := testv1.NewEchoServiceClient(bus)
			const calls = 60
			for i := range calls {
				var err error
				if i%2 == 0 {
					_, err = client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
				} else {
					_, err = bus.Call(t.Context(), "test.echo.echo_soon", framework.Args{"text": "x"})
				}
				if err != nil {
					t.Errorf("call %d: %v", i+1, err)
				}
				if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil { // which all have
					t.Error(err)
				}
			}
			if runs.Load() != calls || old.Load() != calls {
				t.Errorf("%d calls of each RPC ran %d and %d times", calls, runs.Load(), old.Load())
			}
		})
	}
}

func TestAnRPCThatNoInstanceHasIsRefused(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	err := bus.Invoke(t.Context(), "/onecall.test.v1.EchoService/OfTheNextRelease", &testv1.EchoRequest{}, &testv1.EchoResponse{})
	if status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.Refused {
		t.Errorf("the call = %v", err)
	}
	stream, err := bus.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/onecall.test.v1.EchoService/OfTheNextRelease")
	if err == nil {
		err = stream.RecvMsg(&testv1.EchoResponse{})
	}
	if status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.Refused {
		t.Errorf("the stream = %v", err)
	}
}
