package framework_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery/memory"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
)

// slowAuth is an auth API with a handler that works longer than its caller waits.
type slowAuth struct {
	authv1.UnimplementedAuthServiceServer

	begun chan struct{}
}

func (s *slowAuth) PromoteToAdmin(ctx context.Context, request *authv1.PromoteToAdminRequest) (*authv1.PromoteToAdminResponse, error) {
	close(s.begun)
	<-ctx.Done()
	return &authv1.PromoteToAdminResponse{User: &authv1.User{Username: request.GetUsername(), Admin: true}}, nil
}

// impatient makes a call and cancels it while its handler runs. It returns the registry,
// the bus, what ends them, and the error of the call.
func impatient(options ...framework.BusOption) (registry *memory.Registry, bus *framework.Bus, stop func(), failed error) {
	registry = memory.New()
	slow := &slowAuth{begun: make(chan struct{})}
	service, err := framework.Start(context.Background(), registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, slow)
	}, quiet)
	if err != nil {
		log.Fatal(err)
	}
	if bus, err = framework.NewBus(registry, append(options, quiet)...); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-slow.begun
		cancel()
	}()
	_, failed = authv1.NewAuthServiceClient(bus).PromoteToAdmin(ctx, &authv1.PromoteToAdminRequest{Username: "adam"})
	return registry, bus, func() {
		if err := errors.Join(bus.Close(), service.Stop(context.Background())); err != nil {
			log.Fatal(err)
		}
	}, failed
}

func ExampleBus_Settle() {
	_, bus, stop, err := impatient()
	defer stop()
	fmt.Println(framework.OutcomeOf(err))

	reply := new(authv1.PromoteToAdminResponse)
	err = bus.Settle(context.Background(), err, reply)
	switch framework.OutcomeOf(err) {
	case framework.Executed: // err is nil, or the error of the handler
		fmt.Println("it ran:", reply.GetUser().GetUsername(), err)
	case framework.Refused, framework.NotSent:
		fmt.Println("it never runs:", err)
	case framework.Unknown:
		fmt.Println("the instance is gone, or cannot be reached now:", errors.Is(err, framework.ErrForgotten))
	}
	// Output:
	// it is not known whether the call ran
	// it ran: adam <nil>
}

// A program hands a call to another process, such as its own successor.
func ExampleCallToken() {
	key := make([]byte, 32) // the processes share it; it comes from a secret store
	_, _ = rand.Read(key)
	registry, _, stop, err := impatient(framework.TokenKey(key))
	defer stop()
	token, err := framework.CallToken(err)
	if err != nil {
		log.Fatal(err)
	}

	successor, err := framework.NewBus(registry, framework.TokenKey(key), quiet)
	if err != nil {
		log.Fatal(err)
	}
	defer successor.Close()
	reply := new(authv1.PromoteToAdminResponse)
	err = successor.SettleToken(context.Background(), token, reply)
	fmt.Println(reply.GetUser().GetUsername(), err)
	// Output: adam <nil>
}

func ExampleSettleWithin() {
	registry, stop := served()
	defer stop()
	// If the reply of a call is late or lost, the bus asks for it until 3 s after the
	// deadline of the call.
	bus, err := framework.NewBus(registry, framework.SettleWithin(3*time.Second), quiet)
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()
	client := authv1.NewAuthServiceClient(bus)
	_, err = client.PromoteToAdmin(context.Background(), &authv1.PromoteToAdminRequest{Username: "adam"})
	fmt.Println(err)
	// One call returns at its deadline.
	_, err = client.PromoteToAdmin(context.Background(), &authv1.PromoteToAdminRequest{Username: "adam"}, framework.SettleWithin(0))
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
}
