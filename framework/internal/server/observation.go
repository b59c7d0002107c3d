package server

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework/internal/ended"
	"github.com/onecall-dev/onecall/framework/internal/meter"
	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/internal/quote"
)

// arrival is the context with which a call arrived, if there are observers.
type arrival struct {
	context.Context //nolint:containedctx // it is one, so that what runs inside can note things on it

	admits atomic.Pointer[context.Context] // the context that admission got, nil before
}

type arrivalKey struct{}

// Value implements [context.Context].
func (a *arrival) Value(key any) any {
	if key == (arrivalKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// arrivalOf returns the arrival from which a context derives, nil if there is none.
func arrivalOf(ctx context.Context) *arrival {
	found, _ := ctx.Value(arrivalKey{}).(*arrival)
	return found
}

// noteContext is an interceptor that records the context that admission gets.
func noteContext(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if a := arrivalOf(ctx); a != nil {
		a.admits.Store(&ctx)
	}
	return handler(ctx, req)
}

// noteStreamContext is noteContext for streams.
func noteStreamContext(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := stream.Context()
	if a := arrivalOf(ctx); a != nil {
		a.admits.Store(&ctx)
	}
	return handler(srv, stream)
}

// observation is a call that is observed.
type observation struct {
	// ctx is the context with which the call arrived, and inside the one for what runs
	// inside of the observation.
	ctx, inside context.Context //nolint:containedctx // of a running call
	path        string
	stream      bool
	begun       time.Time
	calls       *meter.Calls // nil without metrics
	// notify notifies the observers, and the span of the call. It is nil without both.
	notify *notifier.Notifier
	// arrival notes the context of observers, nil without observers.
	arrival *arrival
}

// observes reports whether anything observes the calls.
func (c *chain) observes() bool {
	return c.notify != nil || c.meters != nil || c.tracer != nil || len(c.watch) > 0
}

// arrived returns the observation of a call that arrives.
func (c *chain) arrived(ctx context.Context, path string, stream bool, calls *meter.Calls) observation {
	o := observation{ctx: ctx, inside: ctx, path: path, stream: stream, begun: time.Now(), calls: calls, notify: c.notify}
	if c.tracer != nil {
		c.trace(&o)
	}
	if c.notify != nil {
		o.arrival = &arrival{Context: o.inside}
		o.inside = o.arrival
	}
	return o
}

// trace begins the span of a call, if the tracer records it.
func (c *chain) trace(o *observation) {
	call := observe.TracedCall{Method: strings.TrimPrefix(o.path, "/"), Known: c.calls.knows(o.path)}
	if parents := server.Incoming(o.ctx, observe.TraceParentKey); len(parents) == 1 { // several are as good as none
		call.Received = observe.TraceContext{Parent: parents[0], State: strings.Join(server.Incoming(o.ctx, observe.TraceStateKey), ",")}
	}
	var span observe.Observer
	if o.inside, span = c.tracer.Arrived(o.ctx, call); span != nil {
		o.notify = c.notify.With(c.log, span)
	}
}

// observeMethod is the place of observation for unary calls, nil if nothing observes.
func (c *chain) observeMethod() func(path string, method grpc.MethodHandler) grpc.MethodHandler {
	if !c.observes() {
		return nil
	}
	return func(path string, method grpc.MethodHandler) grpc.MethodHandler {
		calls := c.meters.Add(path)
		return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (reply any, err error) {
			o := c.arrived(ctx, path, false, calls)
			returned := false
			defer func() { err = c.observe(&o, err, returned, recover()) }()
			reply, err = method(srv, o.inside, decode, interceptor)
			returned = true
			return reply, err
		}
	}
}

// observeStream is the place of observation for streams, nil if nothing observes.
func (c *chain) observeStream() grpc.StreamServerInterceptor {
	if !c.observes() {
		return nil
	}
	return ofAPIs(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		o := c.arrived(stream.Context(), info.FullMethod, true, c.meters.Of(info.FullMethod))
		returned := false
		defer func() { err = c.observe(&o, err, returned, recover()) }()
		if o.inside != o.ctx {
			stream = contextStream{stream, o.inside}
		}
		err = handler(srv, stream)
		returned = true
		return err
	})
}

// observe counts the end of a call, notifies the observers of it, and returns the error
// that the caller receives: see [chain.answer].
func (c *chain) observe(o *observation, err error, returned bool, cause any) error {
	code := codes.Internal // after runtime.Goexit, for which recovery makes the error
	if returned || cause != nil {
		err = c.answer(o.ctx, err, returned, cause)
		code = status.Code(err)
	}
	took, outcome := time.Since(o.begun), atmostonce.Refused
	if server.HandlerStarted(o.ctx) {
		outcome = atmostonce.Executed
	}
	o.calls.Record(code, outcome, took)
	if o.notify != nil {
		c.notifyEnd(o, code, outcome, err, took)
	}
	c.watch.Ended(o.ctx, code, took, func() ended.Call { return c.describe(o, code, outcome, err, took) })
	return err
}

// maxErrorBytes is how many bytes of an error the log of calls and the status page have.
const maxErrorBytes = 1 << 10

// describe describes a call that has ended.
func (c *chain) describe(o *observation, code codes.Code, outcome atmostonce.Outcome, err error, took time.Duration) ended.Call {
	call := ended.Call{At: time.Now(), Served: true, RPC: c.calls.name(o.path), Stream: o.stream, Outcome: outcome, Code: code, Took: took}
	if !c.calls.knows(o.path) {
		call.RPC = quote.Text(o.path)
	}
	if err != nil {
		call.Err = quote.Line(status.Convert(err).Message(), maxErrorBytes)
	}
	if values := server.Incoming(o.ctx, atmostonce.CallKey); len(values) == 1 {
		if identity, err := atmostonce.ParseIdentity(values[0]); err == nil {
			call.ID = ended.ID(identity)
		}
	}
	return call
}

// notifyEnd notifies the observers of the end of a call.
func (c *chain) notifyEnd(o *observation, code codes.Code, outcome atmostonce.Outcome, err error, took time.Duration) {
	ctx, rpc := o.ctx, c.calls.name(o.path)
	if o.arrival != nil {
		if admitted := o.arrival.admits.Load(); admitted != nil {
			ctx = *admitted
		}
	}
	if outcome == atmostonce.Executed {
		o.notify.Notify(ctx, observe.CallServed{RPC: rpc, Stream: o.stream, Code: code, Duration: took})
	} else {
		o.notify.Notify(ctx, observe.CallRefused{RPC: rpc, Stream: o.stream, Code: code, Reason: atmostonce.ReasonOf(err), Duration: took})
	}
}
