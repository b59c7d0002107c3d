package framework

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrClosed is met by calls on a bus that was closed. Its code is CANCELED.
var ErrClosed error = &callError{code: codes.Canceled, text: "the bus is closed"}

// callError is one coded error at the edge: a code and a text for people, and
// the causes for errors.Is and errors.As.
type callError struct {
	code   codes.Code
	text   string
	causes []error
}

// Error implements error.
func (e *callError) Error() string { return e.text }

// Unwrap gives the causes.
func (e *callError) Unwrap() []error { return e.causes }

// GRPCStatus gives what status.Code reads.
func (e *callError) GRPCStatus() *status.Status { return status.New(e.code, e.text) }

// invalid is an INVALID_ARGUMENT error.
func invalid(format string, args ...any) error {
	return &callError{code: codes.InvalidArgument, text: "onecall: " + fmt.Sprintf(format, args...)}
}

// waitError is what a wait ended with when its context did.
func waitError(ctx context.Context, text string, causes ...error) error {
	return &callError{
		code:   status.FromContextError(ctx.Err()).Code(),
		text:   "onecall: " + text,
		causes: append(causes, ctx.Err()),
	}
}
