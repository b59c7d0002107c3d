package framework_test

import (
	"context"
	"fmt"
	"log"

	"github.com/onecall-dev/onecall/discovery/memory"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/telemetry"
)

// This counts the calls of a service and a bus.
func ExampleMetrics() {
	ctx, registry := context.Background(), memory.New()
	metrics := telemetry.New()
	service, err := framework.Start(ctx, registry, registerAuth, quiet, framework.Metrics(metrics))
	if err != nil {
		log.Fatal(err)
	}
	bus, err := framework.NewBus(registry, quiet, framework.Metrics(metrics))
	if err != nil {
		log.Fatal(err)
	}
	_, err = authv1.NewAuthServiceClient(bus).CheckPassword(ctx, &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"})
	fmt.Println(err)
	if err := bus.Close(); err != nil {
		log.Fatal(err)
	}
	if err := service.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	for _, metric := range metrics.Collect() {
		for _, point := range metric.Points {
			if metric.Kind == telemetry.Histogram {
				fmt.Println(metric.Name, point.Attribute(telemetry.MethodKey), point.Count())
			}
		}
	}
	// Output:
	// the handler runs
	// <nil>
	// rpc.client.call.duration auth.v1.AuthService/CheckPassword 1
	// rpc.server.call.duration auth.v1.AuthService/CheckPassword 1
}
