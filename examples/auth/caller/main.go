// Caller finds the auth API in etcd and checks a password.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/onecall-dev/onecall/discovery/etcd"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
)

func main() {
	endpoint := flag.String("etcd", "http://127.0.0.1:2379", "client URL of etcd")
	username := flag.String("username", "admin", "whose password to check")
	password := flag.String("password", "secret", "the password to check")
	flag.Parse()
	if err := check(*endpoint, *username, *password); err != nil {
		log.Fatal(err)
	}
}

func check(endpoint, username, password string) error {
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return err
	}
	defer registry.Close()
	bus, err := framework.NewBus(registry)
	if err != nil {
		return err
	}
	defer bus.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	auth := authv1.NewAuthServiceClient(bus)
	reply, err := auth.CheckPassword(ctx, &authv1.CheckPasswordRequest{Username: username, Password: password})
	if err != nil {
		return err
	}
	fmt.Printf("the password of %s is right: %v\n", username, reply.GetValid())

	// The same, without waiting for the reply.
	call := framework.CallAsync(ctx, auth.GetUser, &authv1.GetUserRequest{Username: username})
	user, err := call.Await(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%s has id %d and is an administrator: %v\n", username, user.GetUser().GetId(), user.GetUser().GetAdmin())

	// By name, which needs no generated code.
	named, err := bus.Call(ctx, "auth.check_password", framework.Args{"username": username, "password": password})
	if err == nil {
		fmt.Println("by name:", named.Map())
	}
	return err
}
