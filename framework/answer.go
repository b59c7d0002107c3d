package framework

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/recovery"
	"github.com/onecall-dev/onecall/internal/quote"
)

// maxLoggedBytes is the most that the log shows of a handler's error.
const maxLoggedBytes = 4 << 10

// answer returns the error with which a call at the server ends: what err, a
// panic's cause or runtime.Goexit (the call has not returned) become.
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
		return passedOn(err)
	}
	if c.expose {
		return err
	}
	// As grpc-go reads them, without the words that a handler wrapped them in.
	for _, ended := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, ended) {
			return status.FromContextError(ended).Err()
		}
	}
	return recovery.Incident(ctx, c.log, "a handler's error has no gRPC status: its text is not sent to the caller", "error", quote.Line(err.Error(), maxLoggedBytes))
}

// passedOn returns a handler's error without what the error of a call on a bus
// says to the program alone, such as the addresses of instances and of the
// registry: only the words of its status are for others. gRPC sends the whole
// text of an error that wraps a status.
func passedOn(err error) error {
	inner, ok := errors.AsType[*callError](err)
	if !ok || inner.text == inner.status.Message() {
		return err
	}
	sent := status.Convert(err).Proto()
	sent.Message = strings.ReplaceAll(sent.GetMessage(), inner.text, inner.status.Message())
	return status.ErrorProto(sent)
}
