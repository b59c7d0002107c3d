package timeout

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Method is a unary method as the interceptor needs it.
type Method struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Limit is the declared limit.
	Limit Limit
}

// UnaryServerInterceptor applies timeouts to the handlers of methods, whose keys are
// gRPC's paths. The timeout is the deadline that the call arrived with, else the declared
// limit. Other methods are not changed.
//
// The timeout only ends the handler's context. A handler that ignores its context
// continues, and its reply is sent if the caller still waits.
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

// declared runs a handler with the declared limit as its timeout.
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
