package timeout

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is an error of time: its gRPC code is DEADLINE_EXCEEDED.
type Error struct {
	// RPC is the call's bus name, such as "auth.check_password".
	RPC string
	// Limit is the one that passed.
	Limit Limit
	// Handler tells whether the server says it, of its handler; else the
	// caller says it, of the whole call.
	Handler bool
	// Cause is the error as it came from grpc-go or the handler.
	Cause error
}

// Error implements error.
func (e *Error) Error() string {
	switch {
	case e.Handler && e.Limit.Source == FromCaller:
		return e.RPC + ": the handler did not finish before the deadline that the call came with"
	case e.Handler:
		return e.RPC + ": the handler did not finish within " + e.Limit.describe()
	case e.Limit.Source == FromCaller:
		return e.RPC + ": no reply before " + e.Limit.describe() + " passed"
	default:
		return e.RPC + ": no reply within " + e.Limit.describe()
	}
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus gives the status that a server sends and status.Code reads.
func (e *Error) GRPCStatus() *status.Status {
	return status.New(codes.DeadlineExceeded, e.Error())
}
