package framework_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
)

func ExampleStart() {
	ctx, registry := context.Background(), memory.New()
	service, err := framework.Start(ctx, registry, registerAuth, framework.ListenOn("127.0.0.1:0"), quiet)
	if err != nil {
		log.Fatal(err)
	}
	host, _, err := net.SplitHostPort(service.Address())
	fmt.Println(host, err)

	fmt.Println(checkPassword(ctx, registry))
	stats := service.Stats()
	fmt.Println("registered:", stats.Registered, "sessions:", stats.Sessions, "failed:", stats.Failed)

	fmt.Println(service.Stop(ctx))
	// Output:
	// 127.0.0.1 <nil>
	// the handler runs
	// <nil>
	// registered: true sessions: 1 failed: 0
	// <nil>
}

func ExampleListener() {
	ctx := context.Background()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	service, err := framework.Start(ctx, memory.New(), registerAuth, framework.Listener(listener), quiet)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(service.Address() == listener.Addr().String())
	fmt.Println(service.Stop(ctx))
	_, err = listener.Accept()
	fmt.Println(errors.Is(err, net.ErrClosed))
	// Output:
	// true
	// <nil>
	// true
}

// callCounter counts the calls of a service, by RPC and code.
type callCounter struct {
	mu    sync.Mutex // guards calls
	calls map[string]int
}

// Observe implements framework.Observer.
func (c *callCounter) Observe(_ context.Context, event framework.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch event := event.(type) {
	case framework.CallServed:
		c.calls[event.RPC+" served "+event.Code.String()]++
	case framework.CallRefused:
		c.calls[event.RPC+" refused "+event.Code.String()]++
	}
}

func ExampleObserve() {
	ctx, registry := context.Background(), memory.New()
	counter := &callCounter{calls: make(map[string]int)}
	service, err := framework.Start(ctx, registry, registerAuth, framework.Observe(counter), quiet)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(checkPassword(ctx, registry))
	fmt.Println(service.Stop(ctx))
	fmt.Println(counter.calls)
	// Output:
	// the handler runs
	// <nil>
	// <nil>
	// map[auth.check_password served OK:1]
}

func ExampleBus_Stats() {
	ctx, registry := context.Background(), memory.New()
	service, err := framework.Start(ctx, registry, registerAuth, quiet)
	if err != nil {
		log.Fatal(err)
	}
	bus, err := framework.NewBus(registry, quiet)
	if err != nil {
		log.Fatal(err)
	}
	if err := bus.Ready(ctx, "auth"); err != nil {
		log.Fatal(err)
	}
	_, err = bus.Call(ctx, "auth.check_password", framework.Args{"username": "adam", "password": "?"})
	fmt.Println(err)

	stats := bus.Stats()
	fmt.Println("calls:", stats.APIs["auth"].Calls, "failed:", stats.APIs["auth"].Failed, "retries:", stats.APIs["auth"].Retries)
	fmt.Println(bus.Close(), service.Stop(ctx))
	// Output:
	// the handler runs
	// <nil>
	// calls: 1 failed: 0 retries: 0
	// <nil> <nil>
}
