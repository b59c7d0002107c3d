package framework

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/interceptors/validate"
)

// failure is an issue of a call that failed.
type failure struct {
	route   *route
	outcome Outcome
	// problem is why no instance could be found, if there was none all the
	// while; nil otherwise.
	problem *problem
	err     error
}

// told gives the error as the program gets it. An error of the handler's stays
// in its own words; others say what is known of the call.
func (f failure) told() error {
	st, text, causes := status.Convert(f.err), f.err.Error(), []error{f.err}
	if f.outcome == Executed && f.problem == nil {
		return &callError{status: st, text: text, outcome: f.outcome, causes: causes}
	}
	switch f.err.(type) { //nolint:errorlint // only of itself: these name the RPC already
	case *callError, *timeout.Error, *validate.Error:
	default:
		text = f.route.rpc + ": " + st.Message()
	}
	if f.problem != nil {
		switch st.Code() {
		case codes.DeadlineExceeded:
			text += ": " + f.problem.err.Error()
			st = status.New(st.Code(), text)
			causes = append(causes, f.problem.err)
		case codes.Unavailable:
			text = f.route.rpc + ": " + f.problem.err.Error()
			st = status.New(f.problem.code(), text)
			causes = []error{f.problem.err, f.err}
		default:
		}
	}
	return &callError{status: st, text: text + " (" + f.outcome.String() + ")", outcome: f.outcome, causes: causes}
}
