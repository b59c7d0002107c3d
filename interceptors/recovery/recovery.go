// Package recovery turns a panic of a handler into an INTERNAL error.
//
// The caller learns an opaque incident id and nothing else; the panic and its
// stack go to the server's log under that id.
package recovery

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// UnaryServerInterceptor recovers handlers of unary calls, and what runs
// between it and them.
func UnaryServerInterceptor(log *slog.Logger) grpc.UnaryServerInterceptor {
	return recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(handler(log)))
}

// StreamServerInterceptor recovers handlers of streams, and what runs between
// it and them.
func StreamServerInterceptor(log *slog.Logger) grpc.StreamServerInterceptor {
	return recovery.StreamServerInterceptor(recovery.WithRecoveryHandlerContext(handler(log)))
}

func handler(log *slog.Logger) recovery.RecoveryHandlerFuncContext {
	return func(ctx context.Context, cause any) error {
		incident := rand.Text()
		method, _ := grpc.Method(ctx)
		log.ErrorContext(ctx, "a handler panicked",
			"incident", incident,
			"method", method,
			"panic", fmt.Sprint(cause),
			"stack", string(debug.Stack()))
		return status.Errorf(codes.Internal, "the handler failed; the server's log has the cause under incident %s", incident)
	}
}
