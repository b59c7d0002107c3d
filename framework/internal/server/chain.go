package server

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/ended"
	"github.com/onecall-dev/onecall/framework/internal/meter"
	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/interceptors/recovery"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/contract"
)

// streamWorkers is how many goroutines a server keeps for its calls. A new goroutine
// must grow its stack first. Only calls above that number get new goroutines.
const streamWorkers = 64

// The names of the places that code looks up.
const (
	beforeAdmission = "before admission"
	admission       = "admission"
	programsOwn     = "the program's own"
)

// place is one position in the chain of a service, with the code that runs there around
// a call. A field that is nil adds nothing to a call.
type place struct {
	name string
	// method wraps the method of a unary RPC. It runs before the request is read.
	method func(path string, method grpc.MethodHandler) grpc.MethodHandler
	// unary runs around a unary call after its request is read.
	unary grpc.UnaryServerInterceptor
	// stream runs around a stream.
	stream grpc.StreamServerInterceptor
}

// chain is the code that runs around the handlers of a service.
type chain struct {
	log    *slog.Logger
	guard  *server.Server
	expose bool // set by option ExposeErrors
	calls  *underWay
	notify *notifier.Notifier // nil without observers
	meters *meter.Set         // nil without metrics
	tracer observe.Tracer     // nil without traces
	watch  ended.Watchers
	places []place
	// authorization is nil without a policy.
	authorization *authorization

	// around runs around a stream outside of its admission.
	around grpc.StreamServerInterceptor
	// admitted runs around a unary call after its admission and before the program's
	// own interceptors. served runs around a stream before the program's own.
	admitted grpc.UnaryServerInterceptor
	served   grpc.StreamServerInterceptor
	// introduced runs around unary calls of gRPC's own services, and sends the name of the
	// instance.
	introduced grpc.UnaryServerInterceptor
	// checkedStream runs around a stream after the program's own interceptors.
	checkedStream grpc.StreamServerInterceptor
}

// order returns the places of a chain, the outermost first. It is the complete list of
// the code that runs around a handler, for unary calls and streams.
//
// grpc-go runs the program's own interceptors, and those of streams. The guard runs all
// others, around each method. Of these, only authorization and the interceptors of a program
// cost a unary call allocations.
func (c *chain) order(o Options, limits map[string]timeout.Method, rules map[string]validate.Method) []place {
	return []place{
		{name: "recovery", method: c.recoverMethod, stream: c.recoverStream},
		{name: "observation", method: c.observeMethod(), stream: c.observeStream()},
		{name: beforeAdmission, unary: chainUnary(o.Before.unary), stream: chainStream(o.Before.stream)}, // run by the guard
		{name: admission},                       // run by the guard, which also runs the places before it: see aroundMethod and aroundStream
		{name: "limits", stream: c.limitStream}, // serveUnary has that of unary calls, with the count for a shutdown
		{name: "authorization", unary: c.authorization.unary(), stream: c.authorization.stream(c)}, // see serveBuiltin for gRPC's own services
		{name: "after admission", unary: server.Pin(chainUnary(o.After.unary)), stream: ofAPIs(chainStream(o.After.stream))},
		{name: "deadline", unary: timeout.UnaryServerInterceptor(limits)}, // streams have none
		{name: programsOwn}, // grpc-go runs those of option ServerOptions
		{name: "rules", unary: validate.UnaryServerInterceptor(c.log, rules, o.StrictSchema), stream: validate.StreamServerInterceptor(c.log, rules, o.StrictSchema)},
		{name: "handler"}, // its panics are also recovered here, so that the program's own interceptors see an error
	}
}

// newChain returns the chain of a service. The caller must close its guard.
func newChain(
	o Options, incarnation discovery.Incarnation, calls *underWay, limits map[string]timeout.Method,
	rules map[string]validate.Method, outliving map[string]bool, authorization *authorization,
) (*chain, error) {
	c := &chain{log: o.Log, expose: o.ExposeErrors, calls: calls, notify: o.notify, meters: o.meters, tracer: o.Tracer, watch: o.Watchers}
	if c.notify != nil { // the context of an observer has the values that authentication set, and no identity
		o.Before = Interceptors{}.With(noteContext, noteStreamContext).and(o.Before).With(noteContext, noteStreamContext)
	}
	c.authorization = authorization
	c.places = c.order(o, limits, rules)
	before, admitted, own := c.places[c.index(beforeAdmission)], c.index(admission)+1, c.index(programsOwn)
	_, c.around = chainPlaces(c.places[:admitted])
	c.admitted, c.served = chainPlaces(c.places[admitted:own])
	inner, checkedStream := chainPlaces(c.places[own:])
	c.checkedStream = checkedStream
	config := server.Config{
		Incarnation:             incarnation,
		RequireIdentity:         o.RequireIdentity,
		MaxSessionsPerPrincipal: o.MaxSessionsPerPrincipal,
		MaxSessions:             o.MaxSessions,
		Ledger:                  o.Ledger,
		MaxKept:                 o.MaxKept,
		MaxKeptPerSession:       o.MaxKeptPerSession,
		KeepLost:                o.KeepLost,
		Exempt:                  contract.IsBuiltin,
		KeepsReply:              func(path string) bool { return contract.KeepsReply(protoregistry.GlobalFiles, path) },
		BeforeUnary:             before.unary,
		BeforeStream:            before.stream,
		AfterUnary:              c.serveUnary,
		InnerUnary:              inner,
		Handle:                  c.handle,
		Around:                  c.aroundMethod,
		AroundStream:            c.aroundStream,
		Outlives:                func(path string) bool { return outliving[path] },
		Log:                     o.Log,
	}
	var err error
	if c.guard, err = server.New(config); err != nil {
		return nil, fmt.Errorf("option Admission: %w", err)
	}
	c.introduced = c.guard.UnaryServerInterceptor()
	if guarded := c.guard.StreamServerInterceptor(); c.served == nil {
		c.served = guarded
	} else {
		c.served = chainStream([]grpc.StreamServerInterceptor{guarded, c.served})
	}
	return c, nil
}

// chainPlaces returns the interceptors of places, except those that the guard runs: all
// before admission, and admission itself.
func chainPlaces(places []place) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	var unary []grpc.UnaryServerInterceptor
	var stream []grpc.StreamServerInterceptor
	for _, place := range places {
		if place.name == beforeAdmission {
			continue
		}
		if place.unary != nil {
			unary = append(unary, place.unary)
		}
		if place.stream != nil {
			stream = append(stream, place.stream)
		}
	}
	return chainUnary(unary), chainStream(stream)
}

// index returns the index of a place.
func (c *chain) index(name string) int {
	return slices.IndexFunc(c.places, func(p place) bool { return p.name == name })
}

// options returns the options of a server, with the code that runs around its streams. The
// program's own replace the limits before them, but not the framework's interceptors
// after them. Unary calls need none of these: see [chain.service] and [chain.builtin].
func (c *chain) options(o Options, served grpc.StreamServerInterceptor) []grpc.ServerOption {
	options := []grpc.ServerOption{grpc.NumStreamWorkers(streamWorkers), grpc.UnknownServiceHandler(c.guard.UnknownMethod)}
	options = append(options, o.Limits.options()...)
	options = append(options, o.Server...)
	return append(options,
		grpc.UnaryInterceptor(nil),     // so that, as for streams, the program has only chained ones
		grpc.StreamInterceptor(served), // grpc-go runs it before the chained interceptors
		grpc.ChainStreamInterceptor(c.checkedStream))
}

// service returns the description to register for an API. The places up to admission run
// around its methods, and panics of its handlers are recovered.
func (c *chain) service(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	recovered := *desc
	recovered.Streams = slices.Clone(desc.Streams)
	for i := range recovered.Streams {
		path := "/" + desc.ServiceName + "/" + recovered.Streams[i].StreamName
		c.meters.Add(path)
		recovered.Streams[i].Handler = c.handleStream(path, recovered.Streams[i].Handler)
	}
	return c.guard.Instrument(&recovered)
}

// builtin returns the description to register for one of gRPC's own services, such as health.
func (c *chain) builtin(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	served := *desc
	served.Methods = slices.Clone(desc.Methods)
	for i := range served.Methods {
		method := served.Methods[i].Handler
		served.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			around := []grpc.UnaryServerInterceptor{c.serveBuiltin}
			if interceptor != nil {
				around = append(around, interceptor)
			}
			return method(srv, ctx, decode, chainUnary(around))
		}
	}
	return &served
}

// settling returns the description to register for the service by which callers settle
// their calls. Panics of what runs before admission are recovered.
func (c *chain) settling() *grpc.ServiceDesc {
	desc := c.guard.Calls()
	for i := range desc.Methods {
		desc.Methods[i].Handler = c.recoverMethod("", desc.Methods[i].Handler)
	}
	return desc
}

// aroundMethod returns a method with the places around it that are outside of admission.
func (c *chain) aroundMethod(path string, method grpc.MethodHandler) grpc.MethodHandler {
	for _, place := range slices.Backward(c.places) {
		if place.method != nil {
			method = place.method(path, method)
		}
	}
	return method
}

// serveBuiltin runs around each unary call of gRPC's own services.
func (c *chain) serveBuiltin(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := c.authorization.check(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return c.introduced(ctx, req, info, func(ctx context.Context, req any) (any, error) { return c.handle(ctx, req, handler) })
}

// serveUnary runs around each unary call of an API after its request is read. It refuses a
// call above the limit of the API. A shutdown waits for the calls.
func (c *chain) serveUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	running := c.calls.unary[server.MethodOf(ctx)]
	if !running.limit.begin() {
		return nil, errShed
	}
	defer running.limit.end()
	running.begin()
	failed := true // also after a panic or runtime.Goexit
	defer func() { running.end(failed) }()
	reply, err = c.admitted(ctx, req, info, handler)
	failed = err != nil
	return reply, err
}

// aroundStream runs around each stream, outside of admission. A shutdown can end its
// context.
func (c *chain) aroundStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	running := c.calls.beginStream(stream, info.FullMethod)
	defer c.calls.endStream(running)
	return running.result(c.around(srv, running, info, handler))
}

// recoverMethod is the place of recovery for unary calls.
func (c *chain) recoverMethod(_ string, method grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (reply any, err error) {
		returned := false
		defer func() { err = c.answer(ctx, err, returned, recover()) }()
		reply, err = method(srv, ctx, decode, interceptor)
		returned = true
		return reply, err
	}
}

// recoverStream is the place of recovery for streams.
func (c *chain) recoverStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	returned := false
	defer func() { err = c.answer(stream.Context(), err, returned, recover()) }()
	err = handler(srv, stream)
	returned = true
	return err
}

// handle calls the handler of a unary call. A panic of the handler becomes an error.
func (c *chain) handle(ctx context.Context, req any, handler grpc.UnaryHandler) (_ any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = recovery.Panicked(ctx, c.log, cause)
		}
	}()
	return handler(ctx, req)
}

// handleStream returns a handler of a stream that counts its calls. A panic of the
// handler becomes an error.
func (c *chain) handleStream(path string, handler grpc.StreamHandler) grpc.StreamHandler {
	calls := c.calls.streaming[path]
	return func(srv any, stream grpc.ServerStream) (err error) {
		calls.begin()
		failed := true // also after runtime.Goexit
		defer func() {
			if cause := recover(); cause != nil {
				err = recovery.Panicked(stream.Context(), c.log, cause)
			}
			calls.end(failed)
		}()
		err = handler(srv, stream)
		failed = err != nil
		return err
	}
}
