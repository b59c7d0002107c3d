// Package callerr has the errors of calls: a status for programs, a text for people, the
// outcome, and the causes.
package callerr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/quote"
)

// ErrClosed is the error of calls on a closed bus. Its code is CANCELED.
var ErrClosed error = &Error{status: status.New(codes.Canceled, "the bus is closed"), text: "the bus is closed", outcome: atmostonce.NotSent}

// ErrForgotten is in the error of a call of which nothing can be learned any more.
var ErrForgotten = errors.New("nothing can be learned of the call any more")

// Closed returns the error of a call on a closed bus. name is the name of the RPC,
// or of the API for Describe and Ready.
func Closed(name string, causes ...error) error {
	return NotSent(codes.Canceled, name+": "+ErrClosed.Error()+": make calls before Close, or on another bus (the call was not sent)", append([]error{ErrClosed}, causes...)...)
}

// Error is the error of a call: a status for programs, a text for people, the
// outcome, and the causes for errors.Is and errors.As.
//
// If a handler returns it, the status is sent to the handler's own caller, which may
// be an outsider. So if the cause is discovery or a connection, Briefly sets a message
// for the status. Only the text has addresses, endpoints and the names of other APIs.
type Error struct {
	status  *status.Status
	text    string
	outcome atmostonce.Outcome
	causes  []error
	// hidden returns what Hide attached. It is a function, so that nothing prints what
	// it returns.
	hidden func() any
}

// New returns the error of a call. text is what people read, and status what programs do.
func New(st *status.Status, outcome atmostonce.Outcome, text string, causes ...error) *Error {
	return &Error{status: st, text: text, outcome: outcome, causes: causes}
}

// Hide attaches a value that may have secrets, which Hidden returns. It returns the error.
func (e *Error) Hide(value any) *Error {
	e.hidden = func() any { return value }
	return e
}

// Hidden returns the attached value, nil if there is none.
func (e *Error) Hidden() any {
	if e.hidden == nil {
		return nil
	}
	return e.hidden()
}

// OutcomeOf returns the outcome of a call from its error: see framework.OutcomeOf.
func OutcomeOf(err error) atmostonce.Outcome {
	if err == nil {
		return atmostonce.Executed
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		return failed.outcome
	}
	return atmostonce.Unknown
}

// Error implements error.
func (e *Error) Error() string { return e.text }

// Unwrap returns the causes.
func (e *Error) Unwrap() []error { return e.causes }

// GRPCStatus returns the status that status.Code and status.Convert read. If a server
// sent the error, it is the sent status.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Briefly returns the status of a call that failed because of its instances or the
// registry. Its message says only how the call failed. It has the details of st.
func Briefly(st *status.Status, code codes.Code, rpc string) *status.Status {
	words := code.String()
	switch code {
	case codes.Unavailable:
		words = "the API is unavailable, or the connection to it broke"
	case codes.DeadlineExceeded:
		words = "no reply in time"
	case codes.Unimplemented:
		words = "the API is not served"
	case codes.FailedPrecondition:
		words = "the API is served with an incompatible schema"
	case codes.Canceled:
		words = "the call was canceled"
	default:
	}
	brief := st.Proto()
	if brief == nil {
		brief = &spb.Status{}
	}
	brief.Code, brief.Message = int32(code), rpc+": "+words //nolint:gosec // codes are small
	return status.FromProto(brief)
}

// NotSent returns the error of a call of which no attempt was made.
func NotSent(code codes.Code, text string, causes ...error) error {
	return &Error{status: status.New(code, text), text: text, outcome: atmostonce.NotSent, causes: causes}
}

// maxShownName is how many bytes of a name of an RPC, a path or an API are shown.
const maxShownName = 256

// maxShownText is how many bytes of the text of a peer's or a connection's error are
// shown.
const maxShownText = 1000

// ShownText returns the text of a peer's error for an error text: short, on one line.
func ShownText(text string) string { return quote.Line(text, maxShownText) }

// ShownName returns a name of an RPC, a path or an API for an error text. If the
// program forwards calls, the name may come from outside.
func ShownName(name string) string { return quote.Line(name, maxShownName) }

// Invalid returns an INVALID_ARGUMENT error. name is the name of the RPC or API, with
// which the text begins. If there is none, it is "onecall: " and the function.
func Invalid(name, format string, args ...any) error {
	return NotSent(codes.InvalidArgument, ShownName(name)+": "+fmt.Sprintf(format, args...))
}

// Faulty returns the error of a call if the .proto of the API has an error. name is
// the name of the RPC, or of the API for Describe.
func Faulty(name string, err error) error {
	return NotSent(codes.Internal, ShownName(name)+": "+err.Error(), err)
}

// Waiting returns the error of a wait whose context ended.
func Waiting(ctx context.Context, text string, causes ...error) error {
	return &Error{
		status: status.FromContextError(ctx.Err()),
		text:   "onecall: " + text,
		causes: append(causes, ctx.Err()),
	}
}

// PassedOn returns a handler's error for the handler's caller. If the error wraps the
// error of a call on a bus, PassedOn replaces the text of that call's error by the
// message of its status: the text is only for the program, because it has addresses of
// instances and of the registry. gRPC sends the whole text of an error that wraps a
// status.
func PassedOn(err error) error {
	inner, ok := errors.AsType[*Error](err)
	if !ok || inner.text == inner.status.Message() {
		return err
	}
	sent := status.Convert(err).Proto()
	sent.Message = strings.ReplaceAll(sent.GetMessage(), inner.text, inner.status.Message())
	return status.ErrorProto(sent)
}
