package framework

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/keepalive"
	grpcresolver "google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/interceptors/recovery"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/interceptors/validate"
)

// grpc-go knows policies by name, and takes them only before it is used.
func init() { //nolint:gochecknoinits // see balancer.Register
	balancer.Register(client.NewPolicy(resolver.IncarnationOf, observerOf))
}

// observerOf returns the observer of a new connection, nil when there is none.
func observerOf(address grpcresolver.Address) client.Observer {
	if observer := resolver.ObserverOf(address); observer != nil {
		return observer
	}
	return nil
}

// streamWorkers is how many goroutines a server keeps for its calls: a fresh
// one for each would grow its stack each time. More calls than that get fresh
// ones.
const streamWorkers = 64

// chain is what runs around the handlers of a service. This is THE list of it,
// from the outside, each with its place in grpc-go:
//
//	place                            what runs there
//	the description of the method    answers: panics, runtime.Goexit and errors become statuses
//	  (streams: outermost            authentication, by option Authenticate
//	  interceptor)                   admission (guard), before a unary call's request is read
//	outermost unary interceptor      deadline
//	the program's interceptors       those of option ServerOptions, which may authorize
//	innermost interceptor            panics of what follows, rules of the messages
//	the description of the method    note that the handler starts (guard)
//	the service's method
//
// The program's interceptors thus see each call that is admitted, its
// refusals by the rules included, and a panic of the handler as an error.
// Each place is one function, since grpc-go pays for each link of a chain.
// Calls are counted for a shutdown, which ends the contexts of streams, in the
// outermost interceptor of their shape.
type chain struct {
	log    *slog.Logger
	guard  *server.Server
	expose bool // what option ExposeErrors sets
	calls  *underWay

	limited       grpc.UnaryServerInterceptor  // the deadline
	checked       grpc.UnaryServerInterceptor  // the rules
	checkedStream grpc.StreamServerInterceptor // those of streams
	admitted      grpc.StreamServerInterceptor // streams, by the guard
}

func newChain(serve serveOptions, guard *server.Server, calls *underWay, limits map[string]timeout.Method, rules map[string]validate.Method) *chain {
	return &chain{
		log:           serve.log,
		guard:         guard,
		expose:        serve.exposeErrors,
		calls:         calls,
		limited:       timeout.UnaryServerInterceptor(limits),
		checked:       validate.UnaryServerInterceptor(serve.log, rules, serve.strict),
		checkedStream: validate.StreamServerInterceptor(serve.log, rules, serve.strict),
		admitted:      guard.StreamServerInterceptor(),
	}
}

// options returns the options of a server, with the program's own between.
func (c *chain) options(own []grpc.ServerOption) []grpc.ServerOption {
	options := []grpc.ServerOption{grpc.NumStreamWorkers(streamWorkers), grpc.UnknownServiceHandler(c.guard.UnknownMethod)}
	options = append(options, protection()...)
	options = append(options, own...)
	return append(options,
		grpc.UnaryInterceptor(c.outerUnary), // it comes before those that are chained
		grpc.StreamInterceptor(c.outerStream),
		grpc.ChainUnaryInterceptor(c.innerUnary),
		grpc.ChainStreamInterceptor(c.innerStream))
}

// service returns what to register in place of an API's description.
func (c *chain) service(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	marked := c.guard.MarkStarted(desc) // a copy
	for i := range marked.Methods {
		marked.Methods[i].Handler = c.answerUnary(marked.Methods[i].Handler)
	}
	return marked
}

// answerUnary is the outermost of a unary method.
func (c *chain) answerUnary(method grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (reply any, err error) {
		returned := false
		defer func() { err = c.answer(ctx, err, returned, recover()) }()
		reply, err = method(srv, ctx, decode, interceptor)
		returned = true
		return reply, err
	}
}

// outerStream is the outermost of a stream.
func (c *chain) outerStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return c.calls.serveStream(srv, stream, info, func(srv any, stream grpc.ServerStream) (err error) {
		returned := false
		defer func() { err = c.answer(stream.Context(), err, returned, recover()) }()
		err = c.admitted(srv, stream, info, handler)
		returned = true
		return err
	})
}

// outerUnary runs outside of the program's interceptors. The methods of gRPC's
// own services, such as health, have no other that recovers these.
func (c *chain) outerUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
	running := c.calls.begin(info.FullMethod)
	defer running.end()
	defer func() {
		if cause := recover(); cause != nil {
			err = recovery.Panicked(ctx, c.log, cause)
		}
	}()
	return c.limited(ctx, req, info, handler)
}

// innerUnary runs inside of the program's interceptors.
func (c *chain) innerUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = recovery.Panicked(ctx, c.log, cause)
		}
	}()
	return c.checked(ctx, req, info, handler)
}

// innerStream runs inside of the program's interceptors.
func (c *chain) innerStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = recovery.Panicked(stream.Context(), c.log, cause)
		}
	}()
	return c.checkedStream(srv, stream, info, handler)
}

// callerKeepalive has Linux end a connection on which what was sent is not
// acknowledged for Timeout; the policy's own probes send something on each within
// 16 s. Pings of HTTP/2 are for other systems: grpc-go's servers allow one every
// 5 minutes unless they were told otherwise, and end the connection after more.
var callerKeepalive = keepalive.ClientParameters{Time: 6 * time.Minute, Timeout: 20 * time.Second}

// dialOptions gives the options of a connection: the program's own between
// defaults, which they may change, and what they may not.
//
// What runs around a call at the caller is not an interceptor: see
// route.call.
func dialOptions(bus busOptions, calls *client.Channel, limits map[string]timeout.Limit, resolvers ...grpc.DialOption) ([]grpc.DialOption, error) {
	config, err := serviceConfig(bus.balancing, calls, limits)
	if err != nil {
		return nil, err
	}
	options := slices.Clone(resolvers) // grpc-go takes the first resolver of a scheme
	// A proxy of the environment would replace the instances' addresses.
	options = append(options, grpc.WithNoProxy(), grpc.WithKeepaliveParams(callerKeepalive))
	if !bus.credentials {
		options = append(options, grpc.WithTransportCredentials(bus.plainText))
	}
	options = append(options, bus.dial...)
	return append(options,
		grpc.WithChainUnaryInterceptor(client.UnaryClientInterceptor),
		grpc.WithChainStreamInterceptor(client.StreamClientInterceptor),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithDisableServiceConfig(), // nobody can push a retry policy
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxRetryRPCBufferSize(0)),
	), nil
}

// serviceConfig gives gRPC's service config of a connection
// (https://github.com/grpc/grpc/blob/master/doc/service_config.md). It configures
// no health check: the policy watches the health of each connection itself.
func serviceConfig(balancing map[string]json.RawMessage, calls *client.Channel, limits map[string]timeout.Limit) (string, error) {
	config, err := json.Marshal(map[string]any{
		"loadBalancingConfig": []map[string]any{{client.PolicyName: map[string]any{
			"childPolicy": []map[string]json.RawMessage{balancing},
			"channel":     calls.ID(),
		}}},
		"methodConfig": timeout.MethodConfigs(limits),
	})
	if err != nil {
		return "", fmt.Errorf("service config: %w", err)
	}
	return string(config), nil
}
