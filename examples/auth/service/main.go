// Service serves the auth API and registers it in etcd.
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/examples/auth"
	"github.com/onecall-dev/onecall/examples/auth/accounts"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
)

func main() {
	endpoint := flag.String("etcd", "http://127.0.0.1:2379", "client URL of etcd")
	ttl := flag.Duration("ttl", etcd.DefaultTTL, "how long etcd keeps an instance that died")
	listen := flag.String("listen", "127.0.0.1:0", "host:port to listen on; port 0 is any free one")
	store := flag.String("store", "accounts.json", "file of the accounts")
	flag.Parse()
	if err := serve(*endpoint, *ttl, *listen, *store); err != nil {
		log.Fatal(err)
	}
}

func serve(endpoint string, ttl time.Duration, listen, store string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	users, err := accounts.Open(store, 0, "adam")
	if err != nil {
		return err
	}
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{endpoint}, TTL: ttl})
	if err != nil {
		return err
	}
	defer registry.Close()
	return framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(users))
	}, framework.ListenOn(listen), framework.FromEnv())
}
