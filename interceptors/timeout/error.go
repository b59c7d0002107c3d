package timeout

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error says that a timeout passed. Its gRPC code is DEADLINE_EXCEEDED.
type Error struct {
	// RPC is the call's bus name, such as "auth.check_password".
	RPC string
	// Limit is the limit that passed.
	Limit Limit
	// Handler is true if the server reports that its handler took too long. It is false
	// if the caller reports that the whole call took too long.
	Handler bool
	// Instance is the address of the instance that did not reply. It is "" if the call
	// was not sent to an instance, or if the instance is not known.
	Instance string
	// Unconnected is true if there was no connection to any instance.
	Unconnected bool
	// Cause is the error that grpc-go or the handler returned.
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
// name the instance: if a handler returns the error, its callers must not see that address.
func (e *Error) GRPCStatus() *status.Status {
	unnamed := *e
	unnamed.Instance = ""
	return status.New(codes.DeadlineExceeded, unnamed.Error())
}
