package main

import (
	"context"
	"errors"
	"net"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// listen returns a listener on a free port of the loopback.
func listen(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// freeAddress returns an address of the loopback with a port that is free now.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := listen(ctx)
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func serveGRPC(ctx context.Context, _ string, ready func(string)) error {
	listener, err := listen(ctx)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	testv1.RegisterEchoServiceServer(server, echo{})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	ready(listener.Addr().String())
	return server.Serve(listener)
}

func dialGRPC(_ context.Context, _, address string) (client, func() error, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return within(generated(testv1.NewEchoServiceClient(conn))), conn.Close, nil
}

// leaseSeconds is the lease of the registered address.
const leaseSeconds = 10

func serveRegistered(ctx context.Context, etcd string, ready func(string)) (err error) {
	registry, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	manager, err := endpoints.NewManager(registry, name)
	if err != nil {
		return err
	}
	lease, err := registry.Grant(ctx, leaseSeconds)
	if err != nil {
		return err
	}
	alive, err := registry.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	go func() {
		for range alive { // the client logs a warning if nothing reads it
			continue
		}
	}()
	return serveGRPC(ctx, etcd, func(address string) {
		if err := manager.AddEndpoint(ctx, name+"/"+address, endpoints.Endpoint{Addr: address}, clientv3.WithLease(lease.ID)); err == nil {
			ready(address)
		}
	})
}

func dialResolved(_ context.Context, etcd, _ string) (client, func() error, error) {
	registry, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd}})
	if err != nil {
		return nil, nil, err
	}
	builder, err := resolver.NewBuilder(registry)
	if err != nil {
		return nil, nil, errors.Join(err, registry.Close())
	}
	conn, err := grpc.NewClient("etcd:///"+name, grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		return nil, nil, errors.Join(err, registry.Close())
	}
	return within(generated(testv1.NewEchoServiceClient(conn))), func() error { return errors.Join(conn.Close(), registry.Close()) }, nil
}
