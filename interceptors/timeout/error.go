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
	// Handler reports whether the server says it, of its handler; else the
	// caller says it, of the whole call.
	Handler bool
	// Instance is the address of the instance that did not reply; "" when the
	// call was not sent to one, or is not known.
	Instance string
	// Unconnected reports whether that was because there was no connection to any.
	Unconnected bool
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
	}
	what := "no reply"
	switch {
	case e.Unconnected:
		what = "no connection to an instance"
	case e.Instance != "":
		what += " from " + e.Instance
	}
	if e.Limit.Source == FromCaller {
		return e.RPC + ": " + what + " before " + e.Limit.describe() + " passed"
	}
	return e.RPC + ": " + what + " within " + e.Limit.describe()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus returns the status that a server sends and status.Code reads. It does not
// name the instance, whose address is nothing for the callers of a handler that
// passes the error on.
func (e *Error) GRPCStatus() *status.Status {
	unnamed := *e
	unnamed.Instance = ""
	return status.New(codes.DeadlineExceeded, unnamed.Error())
}
