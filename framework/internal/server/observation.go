package server

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// arrival is a call of a service that is observed, and the context with which it
// arrived.
type arrival struct {
	context.Context //nolint:containedctx // it is one, so that what runs inside can note things on it

	begun   time.Time
	started atomic.Bool                     // whether its handler has started
	admits  atomic.Pointer[context.Context] // the context that admission got, nil before
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

// noteStarted records that the handler of a call starts. ctx is the context with which
// the call arrived.
func noteStarted(ctx context.Context) {
	if a := arrivalOf(ctx); a != nil {
		a.started.Store(true)
	}
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

// observeMethod is the place of observation for unary calls, nil without
// observers.
func (c *chain) observeMethod() func(path string, method grpc.MethodHandler) grpc.MethodHandler {
	if c.notify == nil {
		return nil
	}
	return func(path string, method grpc.MethodHandler) grpc.MethodHandler {
		return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (reply any, err error) {
			a := &arrival{Context: ctx, begun: time.Now()}
			returned := false
			defer func() { err = c.observe(a, path, false, err, returned, recover()) }()
			reply, err = method(srv, a, decode, interceptor)
			returned = true
			return reply, err
		}
	}
}

// observeStream is the place of observation for streams, nil without observers.
func (c *chain) observeStream() grpc.StreamServerInterceptor {
	if c.notify == nil {
		return nil
	}
	return ofAPIs(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		a := &arrival{Context: stream.Context(), begun: time.Now()}
		returned := false
		defer func() { err = c.observe(a, info.FullMethod, true, err, returned, recover()) }()
		err = handler(srv, contextStream{stream, a})
		returned = true
		return err
	})
}

// observe notifies the observers of the end of a call, and returns the error that the
// caller receives: see [chain.answer].
func (c *chain) observe(a *arrival, path string, stream bool, err error, returned bool, cause any) error {
	code := codes.Internal // after runtime.Goexit, for which recovery makes the error
	if returned || cause != nil {
		err = c.answer(a.Context, err, returned, cause)
		code = status.Code(err)
	}
	ctx := a.Context
	if admitted := a.admits.Load(); admitted != nil {
		ctx = *admitted
	}
	rpc, duration := c.calls.name(path), time.Since(a.begun)
	if a.started.Load() {
		c.notify.Notify(ctx, observe.CallServed{RPC: rpc, Stream: stream, Code: code, Duration: duration})
	} else {
		c.notify.Notify(ctx, observe.CallRefused{RPC: rpc, Stream: stream, Code: code, Reason: atmostonce.ReasonOf(err), Duration: duration})
	}
	return err
}
