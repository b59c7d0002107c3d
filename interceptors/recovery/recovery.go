// Package recovery turns a panic of a handler into an INTERNAL error.
//
// The caller learns an opaque incident id and nothing else; the panic's type and
// its stack go to the server's log under that id. The panic's value does not,
// because it may be a message or hold parts of one; only the Go runtime's own
// errors, such as a nil pointer dereference, are logged in words.
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

// UnaryServerInterceptor recovers handlers of unary calls, and what runs
// between it and them.
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

// StreamServerInterceptor recovers handlers of streams, and what runs between
// it and them.
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

// Panicked logs a panic that was recovered, with the stack of the goroutine that
// calls it, and returns the error for the caller.
func Panicked(ctx context.Context, log *slog.Logger, cause any) error {
	return Incident(ctx, log, "a handler panicked", "panic", Describe(cause), "stack", string(debug.Stack()))
}

// Exited logs that a handler has ended its goroutine by [runtime.Goexit], as
// t.FailNow does in a test's fake. It is to be called by a deferred function. The
// handler never returns, and neither do its interceptors, so Exited ends the call
// of ctx itself, with the INTERNAL error that it returns; later attempts to end
// it have no effect.
func Exited(ctx context.Context, log *slog.Logger) error {
	err := Incident(ctx, log, "a handler ended its goroutine with runtime.Goexit: it must return instead", "stack", string(debug.Stack()))
	if stream, ok := grpc.ServerTransportStreamFromContext(ctx).(interface {
		WriteStatus(st *status.Status) error
	}); ok {
		_ = stream.WriteStatus(status.Convert(err)) // it fails when the call is over already
	}
	return err
}

// Incident logs a failure whose cause is not for the caller, with args as
// [slog.Logger.Error] takes them, and returns the error for the caller: INTERNAL
// with an opaque id by which the log's line is found.
func Incident(ctx context.Context, log *slog.Logger, message string, args ...any) error {
	incident := rand.Text()
	method, _ := grpc.Method(ctx)
	log.ErrorContext(ctx, message, append([]any{"incident", incident, "method", method}, args...)...)
	return status.Errorf(codes.Internal, "the handler failed; the server's log has the cause under incident %s", incident)
}

// Describe returns what a log may say of the value of a panic: nothing of its
// content, which may be that of a message.
func Describe(cause any) string {
	if fault, ok := cause.(runtime.Error); ok {
		return fault.Error()
	}
	return fmt.Sprintf("a value of type %T", cause)
}
