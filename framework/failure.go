package framework

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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

// explained is the failure with its error in other words.
func (f failure) explained(err error) failure {
	f.err = err
	return f
}

// told gives the error as the program gets it. An error of the handler's stays
// in its own words; others say what is known of the call.
func (f failure) told() error {
	st, text, causes := status.Convert(f.err), f.err.Error(), []error{f.err}
	if f.outcome == Executed && f.problem == nil {
		return &callError{status: st, text: text, outcome: f.outcome, causes: causes}
	}
	if _, plain := f.err.(interface{ Unwrap() error }); !plain && !isCallError(f.err) {
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

func isCallError(err error) bool {
	_, ok := err.(*callError) //nolint:errorlint // only of itself
	return ok
}
