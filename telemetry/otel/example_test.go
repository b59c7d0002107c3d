package otel_test

import (
	"context"
	"fmt"
	"log"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	"github.com/onecall-dev/onecall/telemetry/otel"
)

// register registers a service whose RPCs are not implemented.
func register(apis grpc.ServiceRegistrar) {
	testv1.RegisterEchoServiceServer(apis, testv1.UnimplementedEchoServiceServer{})
}

// This traces one call of a hundred. It exports to memory; a program exports with OTLP.
func ExampleNewTracing() {
	ctx, registry, exporter := context.Background(), memory.New(), tracetest.NewInMemoryExporter()
	tracing := otel.NewTracing(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.01)), sdktrace.WithBatcher(exporter))
	service, err := framework.Start(ctx, registry, register, framework.Trace(tracing))
	if err != nil {
		log.Fatal(err)
	}
	bus, err := framework.NewBus(registry, framework.Trace(tracing))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bus.Close(), service.Stop(ctx), tracing.Shutdown(ctx))
	// Output: <nil> <nil> <nil>
}
