package framework

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/status"

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
		return passedOn(err)
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

// passedOn returns a handler's error for the handler's caller. If the error wraps the
// error of a call on a bus, passedOn replaces the text of that call's error by the
// message of its status: the text is only for the program, because it has addresses of
// instances and of the registry. gRPC sends the whole text of an error that wraps a
// status.
func passedOn(err error) error {
	inner, ok := errors.AsType[*callError](err)
	if !ok || inner.text == inner.status.Message() {
		return err
	}
	sent := status.Convert(err).Proto()
	sent.Message = strings.ReplaceAll(sent.GetMessage(), inner.text, inner.status.Message())
	return status.ErrorProto(sent)
}
