package server

import (
	"context"

	"google.golang.org/grpc"
)

// After admission a unary call goes through these functions, the outermost first:
//
//   - intercept, which the method calls when it has read the request
//   - [Config].AfterUnary
//   - runOwn
//   - the gRPC server's interceptors
//   - serverCall.invoke
//   - [Config].InnerUnary
//   - runHandler, which notes that the handler starts
//   - [Config].Handle
//   - the handler
//
// A method value, such as call.invoke, costs an allocation. Only the gRPC server's
// interceptors get one, because they may pass on any context. The two of [Config] get a
// function that finds the call in its context.

// intercept is the interceptor that a method is passed.
func intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	call := callOf(ctx)
	if call == nil {
		return nil, errLost
	}
	if call.entered.Swap(true) {
		return nil, errTwice
	}
	call.info, call.handler = info, handler
	if after := call.server.config.AfterUnary; after != nil {
		return after(ctx, req, info, runOwn)
	}
	return runOwn(ctx, req)
}

// runOwn runs the gRPC server's interceptors, if there are any.
func runOwn(ctx context.Context, req any) (any, error) {
	call := callOf(ctx)
	if call == nil {
		return nil, errLost
	}
	if call.interceptor == nil {
		return call.invoke(ctx, req)
	}
	return call.interceptor(ctx, req, call.info, call.invoke)
}

// invoke is the handler of the gRPC server's interceptors.
func (c *serverCall) invoke(ctx context.Context, req any) (any, error) {
	ctx = c.pin(ctx)
	if inner := c.server.config.InnerUnary; inner != nil {
		return inner(ctx, req, c.info, runHandler)
	}
	return runHandler(ctx, req)
}

// runHandler runs the handler, unless it must not start.
func runHandler(ctx context.Context, req any) (any, error) {
	call := callOf(ctx)
	if call == nil {
		return nil, errLost
	}
	if err := call.start(); err != nil {
		return nil, err
	}
	if call.server.config.Handle != nil {
		return call.server.config.Handle(ctx, req, call.handler)
	}
	return call.handler(ctx, req)
}

// Pin returns an interceptor for [Config].AfterUnary and InnerUnary from one that may pass on
// any context: what runs inside of it is of the call that it was called for. Pin returns nil
// for nil.
func Pin(interceptor grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if interceptor == nil {
		return nil
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		call := callOf(ctx)
		if call == nil {
			return nil, errLost
		}
		return interceptor(ctx, req, info, func(ctx context.Context, req any) (any, error) {
			return handler(call.pin(ctx), req)
		})
	}
}

// pin returns a context of the call: the given one, or if that is not of the call, one that
// derives from it.
func (c *serverCall) pin(ctx context.Context) context.Context {
	if callOf(ctx) == c {
		return ctx
	}
	return pinned{ctx, c}
}

// pinned is a context that an interceptor passed on although it is not of the call.
type pinned struct {
	context.Context //nolint:containedctx // it is one

	call *serverCall
}

// Value implements [context.Context].
func (p pinned) Value(key any) any {
	if key == (callKey{}) {
		return p.call
	}
	return p.Context.Value(key)
}
