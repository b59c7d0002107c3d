package framework

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials/insecure"
	grpcresolver "google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/recovery"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/interceptors/validate"
)

// grpc-go knows policies by name, and takes them only before it is used.
func init() { //nolint:gochecknoinits // see balancer.Register
	balancer.Register(atmostonce.NewPolicy(resolver.IncarnationOf, observerOf))
}

// observerOf returns the observer of a new connection, nil when there is none.
func observerOf(address grpcresolver.Address) atmostonce.Observer {
	if observer := resolver.ObserverOf(address); observer != nil {
		return observer
	}
	return nil
}

// streamWorkers is how many goroutines a server keeps for its calls: a fresh
// one for each would grow its stack each time. More calls than that get fresh
// ones.
const streamWorkers = 64

// serverOptions gives the options of a server. THE order of what runs around a
// handler, from the outside:
//
//	recovery → admission → deadline → rules of the messages → the service's own
//	interceptors → note that the handler starts (guard.MarkStarted) → handler
//
// They are composed here into one interceptor a shape, since grpc-go pays for
// each. Outside of all of them calls counts what runs, for a shutdown, which ends
// the contexts of streams by it.
func serverOptions(serve serveOptions, guard *atmostonce.Server, calls *underWay, limits map[string]timeout.Method, rules map[string]validate.Method) []grpc.ServerOption {
	log := serve.log
	recovered, admitted, timed := recovery.UnaryServerInterceptor(log), guard.UnaryServerInterceptor(), timeout.UnaryServerInterceptor(limits)
	checked := validate.UnaryServerInterceptor(log, rules, serve.strict)
	unary := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		running := calls.begin(info.FullMethod)
		defer running.end()
		return recovered(ctx, req, info, func(ctx context.Context, req any) (any, error) {
			return admitted(ctx, req, info, func(ctx context.Context, req any) (any, error) {
				return timed(ctx, req, info, func(ctx context.Context, req any) (any, error) {
					return checked(ctx, req, info, handler)
				})
			})
		})
	}
	recoveredStream, admittedStream := recovery.StreamServerInterceptor(log), guard.StreamServerInterceptor()
	checkedStream := validate.StreamServerInterceptor(log, rules, serve.strict)
	stream := func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return calls.serveStream(srv, stream, info, func(srv any, stream grpc.ServerStream) error {
			return recoveredStream(srv, stream, info, func(srv any, stream grpc.ServerStream) error {
				return admittedStream(srv, stream, info, func(srv any, stream grpc.ServerStream) error {
					return checkedStream(srv, stream, info, handler)
				})
			})
		})
	}
	options := []grpc.ServerOption{grpc.NumStreamWorkers(streamWorkers), grpc.UnknownServiceHandler(guard.UnknownMethod)}
	options = append(options, serve.server...)
	return append(options,
		grpc.UnaryInterceptor(unary),
		grpc.StreamInterceptor(stream))
}

// dialOptions gives the options of a connection: the program's own between
// defaults, which they may change, and what they may not.
//
// What runs around a call at the caller is not an interceptor: see
// connection.invoke.
func dialOptions(bus busOptions, calls *atmostonce.Channel, limits map[string]timeout.Limit, resolvers ...grpc.DialOption) ([]grpc.DialOption, error) {
	config, err := serviceConfig(bus.balancing, calls, limits)
	if err != nil {
		return nil, err
	}
	options := slices.Clone(resolvers) // grpc-go takes the first resolver of a scheme
	// A proxy of the environment would replace the instances' addresses.
	options = append(options, grpc.WithNoProxy())
	if !bus.credentials {
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	options = append(options, bus.dial...)
	return append(options,
		grpc.WithChainUnaryInterceptor(atmostonce.UnaryClientInterceptor),
		grpc.WithChainStreamInterceptor(atmostonce.StreamClientInterceptor),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithDisableServiceConfig(), // nobody can push a retry policy
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxRetryRPCBufferSize(0)),
	), nil
}

// serviceConfig gives gRPC's service config of a connection
// (https://github.com/grpc/grpc/blob/master/doc/service_config.md). It configures
// no health check: the policy watches the health of each connection itself.
func serviceConfig(balancing map[string]json.RawMessage, calls *atmostonce.Channel, limits map[string]timeout.Limit) (string, error) {
	config, err := json.Marshal(map[string]any{
		"loadBalancingConfig": []map[string]any{{atmostonce.PolicyName: map[string]any{
			"childPolicy": []map[string]json.RawMessage{balancing},
			"channel":     calls.ID(),
		}}},
		"methodConfig": timeout.MethodConfigs(limits),
	})
	if err != nil {
		return "", fmt.Errorf("onecall: service config: %w", err)
	}
	return string(config), nil
}
