package main

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
)

// TestInteropCasesPassThroughServeAndBus runs gRPC's interoperability cases
// (https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md),
// as grpc-go's own package has them. A case that fails ends the process.
func TestInteropCasesPassThroughServeAndBus(t *testing.T) {
	registry, quiet := memory.New(), framework.Logger(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		returned <- framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
			grpc_testing.RegisterTestServiceServer(apis, interop.NewTestServer())
		}, quiet)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-returned; err != nil {
			t.Error(err)
		}
	})
	passInterop(t, registry)
}

// TestInteropCasesPassThroughABusToAPlainServer runs them against grpc-go's own server,
// which reports no outcome with its errors.
func TestInteropCasesPassThroughABusToAPlainServer(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(server, interop.NewTestServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	registry := memory.New()
	if _, err := registry.Register(discovery.Instance{API: "grpc.testing.TestService", Address: listener.Addr().String(), State: discovery.Serving}); err != nil {
		t.Fatal(err)
	}
	passInterop(t, registry)
}

// passInterop runs the cases on a bus.
func passInterop(t *testing.T, registry *memory.Registry) {
	t.Helper()
	bus, err := framework.NewBus(registry, framework.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	if err := bus.Ready(t.Context(), "grpc.testing.TestService"); err != nil {
		t.Fatal(err)
	}
	client := grpc_testing.NewTestServiceClient(bus)
	for name, run := range map[string]func(context.Context, grpc_testing.TestServiceClient, ...grpc.CallOption){
		"empty_unary":                 interop.DoEmptyUnaryCall,
		"large_unary":                 interop.DoLargeUnaryCall,
		"client_streaming":            interop.DoClientStreaming,
		"server_streaming":            interop.DoServerStreaming,
		"ping_pong":                   interop.DoPingPong,
		"empty_stream":                interop.DoEmptyStream,
		"timeout_on_sleeping_server":  interop.DoTimeoutOnSleepingServer,
		"cancel_after_begin":          interop.DoCancelAfterBegin,
		"cancel_after_first_response": interop.DoCancelAfterFirstResponse,
		"custom_metadata":             interop.DoCustomMetadata,
		"status_code_and_message":     interop.DoStatusCodeAndMessage,
		"special_status_message":      interop.DoSpecialStatusMessage,
	} {
		t.Run(name, func(t *testing.T) { run(t.Context(), client) })
	}
	t.Run("unimplemented_service", func(t *testing.T) {
		interop.DoUnimplementedService(t.Context(), grpc_testing.NewUnimplementedServiceClient(bus))
	})
	t.Run("unimplemented_method", func(t *testing.T) {
		// interop's own function accepts only a *grpc.ClientConn.
		err := bus.Invoke(t.Context(), "/grpc.testing.TestService/UnimplementedCall", &grpc_testing.Empty{}, &grpc_testing.Empty{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("an unimplemented method = %v, want UNIMPLEMENTED", err)
		}
	})
}
