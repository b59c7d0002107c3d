package framework

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrClosed is met by calls on a bus that was closed. Its code is CANCELED.
var ErrClosed error = &callError{status: status.New(codes.Canceled, "the bus is closed"), text: "the bus is closed", outcome: NotSent}

// callError is one coded error at the edge: a status for programs, a text for
// people, what is known of the call, and the causes for errors.Is and
// errors.As.
type callError struct {
	status  *status.Status
	text    string
	outcome Outcome
	causes  []error
}

// Error implements error.
func (e *callError) Error() string { return e.text }

// Unwrap gives the causes.
func (e *callError) Unwrap() []error { return e.causes }

// GRPCStatus gives what status.Code and status.Convert read; of a server's
// error that is what the server sent.
func (e *callError) GRPCStatus() *status.Status { return e.status }

// notSent is the error of a call that was not even tried.
func notSent(code codes.Code, text string, causes ...error) error {
	return &callError{status: status.New(code, text), text: text, outcome: NotSent, causes: causes}
}

// invalid is an INVALID_ARGUMENT error.
func invalid(format string, args ...any) error {
	return notSent(codes.InvalidArgument, "onecall: "+fmt.Sprintf(format, args...))
}

// waitError is what a wait ended with when its context did.
func waitError(ctx context.Context, text string, causes ...error) error {
	text = "onecall: " + text
	return &callError{
		status: status.New(status.FromContextError(ctx.Err()).Code(), text),
		text:   text,
		causes: append(causes, ctx.Err()),
	}
}
