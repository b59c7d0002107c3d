package framework_test

import (
	"context"
	"fmt"
	"log"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
)

// This serves a status page that a service and a bus share.
func ExampleAdmin() {
	ctx, registry := context.Background(), memory.New()
	admin := framework.Admin("127.0.0.1:0")
	service, err := framework.Start(ctx, registry, registerAuth, quiet, admin)
	if err != nil {
		log.Fatal(err)
	}
	bus, err := framework.NewBus(registry, quiet, admin)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bus.Close(), service.Stop(ctx))
	// Output: <nil> <nil>
}
