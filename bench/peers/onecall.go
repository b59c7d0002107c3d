package main

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	"github.com/onecall-dev/onecall/telemetry"
)

// discarded is a log that is not written, and quiet the option of it.
var (
	discarded = slog.New(slog.DiscardHandler)
	quiet     = framework.Logger(discarded)
)

// onecall returns a peer that serves and calls with options of both sides. Each registers in
// a namespace of its own, so that none finds the server of another.
func onecall(short, title, on string, options func() []framework.Option) peer {
	return peer{
		name: short, title: title, on: on,
		serve: func(ctx context.Context, endpoint string, ready func(string)) error {
			serving := []framework.ServeOption{quiet}
			for _, option := range options() {
				serving = append(serving, option)
			}
			return serveBus(ctx, etcd.Config{Endpoints: []string{endpoint}, Namespace: short, Logger: discarded}, ready, serving...)
		},
		dial: func(_ context.Context, endpoint, _ string) (client, func() error, error) {
			calling := []framework.BusOption{quiet}
			for _, option := range options() {
				calling = append(calling, option)
			}
			return dialBus(etcd.Config{Endpoints: []string{endpoint}, Namespace: short, Logger: discarded}, calling...)
		},
	}
}

// The options of the peers: all but the last call over TCP, as the others do.
func overTCP() []framework.Option { return []framework.Option{framework.NoSocket()} }

func withMetrics() []framework.Option {
	return []framework.Option{framework.NoSocket(), framework.Metrics(telemetry.New())}
}

func byDefault() []framework.Option { return nil }

func serveBus(ctx context.Context, config etcd.Config, ready func(string), options ...framework.ServeOption) (err error) {
	registry, err := etcd.Open(config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	stop := registry.Watch(name, func(snapshot discovery.Snapshot) {
		if len(snapshot.Instances) > 0 {
			ready(snapshot.Instances[0].Address)
		}
	})
	defer stop()
	return framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) { testv1.RegisterEchoServiceServer(apis, echo{}) }, options...)
}

func dialBus(config etcd.Config, options ...framework.BusOption) (client, func() error, error) {
	registry, err := etcd.Open(config)
	if err != nil {
		return nil, nil, err
	}
	bus, err := framework.NewBus(registry, options...)
	if err != nil {
		return nil, nil, errors.Join(err, registry.Close())
	}
	// The deadline of a call is that of its API, in the .proto.
	return generated(testv1.NewEchoServiceClient(bus)), func() error { return errors.Join(bus.Close(), registry.Close()) }, nil
}
