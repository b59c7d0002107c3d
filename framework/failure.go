package framework

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
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
	// written says that a handler may have written the error, or an interceptor
	// of the program's: it stays in its own words.
	written bool
	// ended is the error of the caller's own context, if that ended the call.
	ended error
	err   error
}

// newFailure returns the failure of an issue. outcome is that of the whole call,
// of which record is the last.
func newFailure(route *route, record *atmostonce.Record, outcome Outcome, err error) failure {
	failed := failure{route: route, outcome: outcome, err: err}
	own := record.Outcome()
	switch {
	case record.Answered(err):
		failed.written = own == Executed || own == Unknown && atmostonce.ReasonOf(err) == ""
	case !record.Settled(err):
		failed.written = own == Executed
	}
	return failed
}

// endOf returns the error of a caller's context if it is what ended a call whose
// error has a code. Its time may be up for a peer a moment sooner than for it.
func endOf(ctx context.Context, code codes.Code) error {
	switch code {
	case codes.DeadlineExceeded:
		if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
			return context.DeadlineExceeded
		}
	case codes.Canceled:
		if errors.Is(ctx.Err(), context.Canceled) {
			return context.Canceled
		}
	default:
	}
	return nil
}

// told gives the error as the program gets it. An error that a handler may have
// written stays in its own words; others say what is known of the call.
func (f failure) told() error {
	st, text, causes := status.Convert(f.err), f.err.Error(), []error{f.err}
	if f.ended != nil {
		causes = append(causes, f.ended)
	}
	if f.written {
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
			causes = append(causes, f.problem.err)
		case codes.Unavailable:
			text = f.route.rpc + ": " + f.problem.err.Error()
			st = briefly(st, f.problem.code(), f.route.rpc)
			causes = append([]error{f.problem.err}, causes...)
		default:
		}
	}
	_, timed := f.err.(*timeout.Error) //nolint:errorlint // only of itself: its words are its own
	if code := st.Code(); f.outcome != Refused && (code == codes.Unavailable || code == codes.DeadlineExceeded && !timed) {
		st = briefly(st, code, f.route.rpc) // grpc-go's words have addresses
	}
	return &callError{status: st, text: text + " (" + f.outcome.String() + ")", outcome: f.outcome, causes: causes}
}
