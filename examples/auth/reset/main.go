// Reset resets the password of an account, and prints the new one if it is right. Its tests
// show how callers are tested.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/etcd"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
)

func main() {
	endpoint := flag.String("etcd", "http://127.0.0.1:2379", "client URL of etcd")
	username := flag.String("username", "adam", "whose password to reset")
	flag.Parse()
	password, err := run(*endpoint, *username)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the new password of %s is %s\n", *username, password)
}

func run(endpoint, username string) (string, error) {
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return "", err
	}
	defer registry.Close()
	bus, err := framework.NewBus(registry)
	if err != nil {
		return "", err
	}
	defer bus.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return reset(ctx, authv1.NewAuthServiceClient(bus), username)
}

// reset resets a password, and checks the new one.
func reset(ctx context.Context, auth authv1.AuthServiceClient, username string) (string, error) {
	password, err := resetPassword(ctx, auth, username)
	if err != nil {
		return "", err
	}
	reply, err := auth.CheckPassword(ctx, &authv1.CheckPasswordRequest{Username: username, Password: password})
	if err == nil && !reply.GetValid() {
		err = errors.New("the new password is wrong: another program has reset it too")
	}
	return password, err
}

// resetPassword resets a password. If it is not known whether that happened, or the new
// password is lost, it resets the password once more: then the first one does not count.
func resetPassword(ctx context.Context, auth authv1.AuthServiceClient, username string) (string, error) {
	request := &authv1.ResetPasswordRequest{Username: username}
	reply, err := auth.ResetPassword(ctx, request)
	if framework.OutcomeOf(err) == framework.Unknown || status.Code(err) == codes.DataLoss {
		reply, err = auth.ResetPassword(ctx, request)
	}
	return reply.GetPassword(), err
}
