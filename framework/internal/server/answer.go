package server

import (
	"context"
	"errors"

	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/recovery"
	"github.com/onecall-dev/onecall/internal/quote"
)

// maxLoggedBytes is how many bytes of a handler's error are logged at most.
const maxLoggedBytes = 4 << 10

// answer returns the error that the caller receives. err is the handler's error and
// cause the value of its panic. If the handler neither returned nor panicked, it called
// runtime.Goexit.
func (c *chain) answer(ctx context.Context, err error, returned bool, cause any) error {
	switch {
	case cause != nil:
		return recovery.Panicked(ctx, c.log, cause)
	case !returned:
		return recovery.Exited(ctx, c.log)
	case err == nil:
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return callerr.PassedOn(err)
	}
	if c.expose {
		return err
	}
	// The codes are those of grpc-go. The text that a handler added is not sent.
	for _, ended := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, ended) {
			return status.FromContextError(ended).Err()
		}
	}
	return recovery.Incident(ctx, c.log, "a handler's error has no gRPC status: its text is not sent to the caller", "error", quote.Line(err.Error(), maxLoggedBytes))
}
