// Package recovery turns a panic of a handler into an INTERNAL error.
//
// The caller receives only an opaque incident id. The server logs the type of the
// panic's value and the stack under that id. It does not log the value itself, because
// the value may be a message or contain part of one. Only errors of the Go runtime, such
// as a nil pointer dereference, are logged with their text.
package recovery

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// UnaryServerInterceptor recovers panics of unary handlers and of the interceptors
// between it and the handler.
func UnaryServerInterceptor(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
		defer func() {
			if cause := recover(); cause != nil {
				err = Panicked(ctx, log, cause)
			}
		}()
		return handler(ctx, req)
	}
}

// StreamServerInterceptor recovers panics of stream handlers and of the interceptors
// between it and the handler.
func StreamServerInterceptor(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer func() {
			if cause := recover(); cause != nil {
				err = Panicked(stream.Context(), log, cause)
			}
		}()
		return handler(srv, stream)
	}
}

// Panicked logs a recovered panic with the stack of the calling goroutine. It returns
// the error for the caller of the RPC.
func Panicked(ctx context.Context, log *slog.Logger, cause any) error {
	return Incident(ctx, log, "a handler panicked", "panic", Describe(cause), "stack", string(debug.Stack()))
}

// Exited logs that a handler ended its goroutine with [runtime.Goexit], as t.FailNow
// does in a test's fake. Call it from a deferred function. The handler and its
// interceptors never return, so Exited ends the call of ctx itself, with the INTERNAL
// error that it returns. Later attempts to end the call have no effect.
func Exited(ctx context.Context, log *slog.Logger) error {
	err := Incident(ctx, log, "a handler ended its goroutine with runtime.Goexit: it must return instead", "stack", string(debug.Stack()))
	if stream, ok := grpc.ServerTransportStreamFromContext(ctx).(interface {
		WriteStatus(st *status.Status) error
	}); ok {
		_ = stream.WriteStatus(status.Convert(err)) // fails if the call has already ended
	}
	return err
}

// Incident logs a failure whose cause the caller must not see. The args are those of
// [slog.Logger.Error]. It returns the error for the caller: INTERNAL, with an opaque id
// that is also in the log line.
func Incident(ctx context.Context, log *slog.Logger, message string, args ...any) error {
	incident := rand.Text()
	method, _ := grpc.Method(ctx)
	log.ErrorContext(ctx, message, append([]any{"incident", incident, "method", method}, args...)...)
	return status.Errorf(codes.Internal, "the handler failed; the server's log has the cause under incident %s", incident)
}

// Describe returns a description of a panic's value that is safe to log. It shows
// nothing of the value's content, which may be that of a message.
func Describe(cause any) string {
	if fault, ok := cause.(runtime.Error); ok {
		return fault.Error()
	}
	return fmt.Sprintf("a value of type %T", cause)
}
