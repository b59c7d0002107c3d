package timeout

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Method is what the server must know of a unary method.
type Method struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Limit is the declared one.
	Limit Limit
}

// UnaryServerInterceptor holds handlers of the methods, by gRPC's path, to the
// deadline that a call came with, else to the declared limit. Other methods are
// left alone.
//
// A handler is held through its context. One that pays no heed to it runs on,
// and its reply, if the caller still waits, is sent.
func UnaryServerInterceptor(methods map[string]Method) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		method, ok := methods[info.FullMethod]
		if !ok {
			return handler(ctx, req)
		}
		if _, ok := ctx.Deadline(); !ok {
			return declared(ctx, req, method, handler)
		}
		reply, err := handler(ctx, req)
		if err != nil && passed(ctx, err) {
			err = &Error{RPC: method.RPC, Limit: Limit{Source: FromCaller}, Handler: true, Cause: err}
		}
		return reply, err
	}
}

// declared runs a handler within the declared limit.
func declared(ctx context.Context, req any, method Method, handler grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, method.Limit.Duration)
	defer cancel()
	reply, err := handler(ctx, req)
	if err != nil && passed(ctx, err) {
		err = &Error{RPC: method.RPC, Limit: method.Limit, Handler: true, Cause: err}
	}
	return reply, err
}

// passed reports whether a handler failed because its own deadline passed.
func passed(ctx context.Context, err error) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline) &&
		(errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded)
}
