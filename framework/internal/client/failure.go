package client

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/interceptors/validate"
)

// failure is a failed attempt of a call.
type failure struct {
	rpc     string // the bus name
	outcome atmostonce.Outcome
	// unavailable is set only if no instance was available at any time between the
	// beginning of the attempt and its failure.
	unavailable *unavailable
	// written says that a handler or an interceptor of the program may have written
	// the error. Then its text is not changed.
	written bool
	// oversize says that the instance's grpc-go refused the request because it is too
	// large.
	oversize bool
	// unretried is the reason why a call was not retried that is retried otherwise,
	// or "".
	unretried string
	// settlement is what is needed to settle a call whose outcome is Unknown, nil if it
	// cannot be settled.
	settlement *settlement
	// learned is what the instance answered when it was asked what became of the call,
	// or "". forgotten says that nothing can be learned any more.
	learned   string
	forgotten bool
	// ended is the error of the caller's own context, if it ended the call.
	ended error
	err   error

	// address is the address of the instance that the call was sent to, "" if none.
	address string
	// broken says that the connection to that instance ended.
	broken bool
	// unconnected is why there was no connection to any instance; nil otherwise.
	unconnected *discovery.ConnectionError
	// first is the failure of the first attempt, nil if this is the first.
	first *failure
}

// newFailure returns the failure of the last attempt of a call. outcome is the outcome
// of the whole call.
func newFailure(rpc string, attempt *client.Attempt, outcome atmostonce.Outcome, err error) failure {
	failed := failure{rpc: rpc, outcome: outcome, err: err}
	own := attempt.Outcome()
	switch {
	case attempt.Answered(err):
		failed.written = own == atmostonce.Executed || own == atmostonce.Unknown && atmostonce.ReasonOf(err) == ""
		// grpc-go's server returns this error if a request is too large. The handler of
		// a plain server may return the same error.
		if status.Code(err) == codes.ResourceExhausted && attempt.Foreign(err) && strings.Contains(status.Convert(err).Message(), "larger than max") {
			failed.written, failed.oversize = false, true
		}
	case !attempt.Settled(err):
		failed.written = own == atmostonce.Executed
	}
	return failed
}

// locate returns the failure with the instance or the connections at which the attempt
// failed. first is the failure of the call's first attempt, nil if this is the first.
func (f failure) locate(links *links, attempt *client.Attempt, first *failure) failure {
	f.address, f.first = attempt.Address(), first
	own := attempt.Outcome()
	f.broken = f.address != "" && own == atmostonce.Unknown && !f.written && !attempt.Answered(f.err) && status.Code(f.err) == codes.Unavailable
	if f.address == "" && own == atmostonce.NotSent && f.unavailable == nil {
		f.unconnected = links.err()
	}
	return f
}

// late returns the failure with another error, for a call whose time has passed. If the
// error is a *timeout.Error, late sets its instance.
func (f failure) late(err error) failure {
	if late, ok := err.(*timeout.Error); ok && late != f.err { //nolint:errorlint // only of itself: it was made for this call
		late.Instance, late.Unconnected = f.address, f.unconnected != nil
	}
	f.err = err
	return f
}

// endOf returns the error of the caller's context if the context ended the call. code
// is that of the call's error. It reads the deadline itself: a peer can see the
// deadline pass a moment before ctx ends.
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

// asError returns the error for the program. If a handler may have written the error,
// its text is not changed. Otherwise the text describes what is known of the call.
func (f failure) asError() error {
	st, text, causes := status.Convert(f.err), f.err.Error(), f.causes()
	if f.outcome != atmostonce.Unknown {
		f.settlement = nil
	}
	if f.written {
		return f.settlement.in(callerr.New(st, f.outcome, text, causes...))
	}
	switch f.err.(type) { //nolint:errorlint // only of itself: these name the RPC already
	case *callerr.Error, *timeout.Error, *validate.Error:
	default:
		text = f.rpc + ": " + callerr.ShownText(st.Message())
		if f.broken {
			text = f.rpc + ": the connection to " + f.address + " broke: " + callerr.ShownText(st.Message())
		}
	}
	text += f.sizeRemedy(st)
	if more := cmp.Or(f.unretried, f.learned); more != "" { // the first of streams, the other of unary calls
		text += ": " + more
	}
	st, text, causes = f.explain(st, text, causes)
	if f.first != nil && f.first.err.Error() != f.err.Error() {
		text += "; at first " + f.first.short()
		causes = append(causes, f.first.err)
	}
	_, timed := f.err.(*timeout.Error) //nolint:errorlint // only of itself: its words are its own
	if code := st.Code(); f.outcome != atmostonce.Refused && (code == codes.Unavailable || code == codes.DeadlineExceeded && !timed) {
		st = callerr.Briefly(st, code, f.rpc) // grpc-go's text has addresses
	}
	return f.settlement.in(callerr.New(st, f.outcome, text+" ("+f.outcome.String()+")", causes...))
}

// causes returns the causes of the error, except why there was no instance or
// connection.
func (f failure) causes() []error {
	causes := []error{f.err}
	if f.ended != nil {
		causes = append(causes, f.ended)
	}
	if f.forgotten {
		causes = append(causes, callerr.ErrForgotten)
	}
	return causes
}

// sizeRemedy returns the remedy if a message was too large for one side, and "" for
// other failures.
func (f failure) sizeRemedy(st *status.Status) string {
	switch {
	case f.oversize:
		return ": the service takes no request of that size; send less, or raise grpc.MaxRecvMsgSize in the service's ServerOptions"
	case st.Code() != codes.ResourceExhausted:
		return ""
	case strings.Contains(st.Message(), "received message larger than max"):
		return ": this bus takes no reply of that size; ask for less, or raise grpc.MaxCallRecvMsgSize by grpc.WithDefaultCallOptions in DialOptions"
	case strings.Contains(st.Message(), "trying to send message larger than max"):
		return ": this bus sends no request of that size; send less, or raise grpc.MaxCallSendMsgSize by grpc.WithDefaultCallOptions in DialOptions"
	default:
		return ""
	}
}

// explain adds the reason why no instance was available, or why there was no
// connection to one.
func (f failure) explain(st *status.Status, text string, causes []error) (*status.Status, string, []error) {
	code := st.Code()
	if code != codes.DeadlineExceeded && code != codes.Unavailable {
		return st, text, causes
	}
	switch {
	case f.unavailable != nil && code == codes.Unavailable:
		text = f.rpc + ": " + f.unavailable.err.Error()
		return callerr.Briefly(st, f.unavailable.code(), f.rpc), text, append([]error{f.unavailable.err}, causes...)
	case f.unavailable != nil:
		return st, text + ": " + f.unavailable.err.Error(), append(causes, f.unavailable.err)
	case f.unconnected != nil && code == codes.Unavailable:
		return st, f.rpc + ": " + f.unconnected.Error(), append([]error{f.unconnected}, causes...)
	case f.unconnected != nil:
		return st, text + ": " + f.unconnected.Error(), append(causes, f.unconnected)
	default:
		return st, text, causes
	}
}

// short returns in a few words how an attempt failed.
func (f failure) short() string {
	text := callerr.ShownText(status.Convert(f.err).Message())
	switch {
	case f.broken:
		return "the connection to " + f.address + " broke: " + text
	case f.unconnected != nil:
		return f.unconnected.Error()
	case f.address != "":
		return f.address + " answered: " + text
	default:
		return text
	}
}
