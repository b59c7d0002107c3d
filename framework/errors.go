package framework

import (
	"context"
	"fmt"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/internal/quote"
)

// ErrClosed is the error of calls on a closed bus. Its code is CANCELED.
var ErrClosed error = &callError{status: status.New(codes.Canceled, "the bus is closed"), text: "the bus is closed", outcome: NotSent}

// closedError returns the error of a call on a closed bus. name is the name of the RPC,
// or of the API for Describe and Ready.
func closedError(name string, causes ...error) error {
	return notSent(codes.Canceled, name+": "+ErrClosed.Error()+": make calls before Close, or on another bus (the call was not sent)", append([]error{ErrClosed}, causes...)...)
}

// callError is the error of a call: a status for programs, a text for people, the
// outcome, and the causes for errors.Is and errors.As.
//
// If a handler returns it, the status is sent to the handler's own caller, which may
// be an outsider. So if the cause is discovery or a connection, briefly sets a message
// for the status. Only the text has addresses, endpoints and the names of other APIs.
type callError struct {
	status  *status.Status
	text    string
	outcome Outcome
	causes  []error
}

// Error implements error.
func (e *callError) Error() string { return e.text }

// Unwrap returns the causes.
func (e *callError) Unwrap() []error { return e.causes }

// GRPCStatus returns the status that status.Code and status.Convert read. If a server
// sent the error, it is the sent status.
func (e *callError) GRPCStatus() *status.Status { return e.status }

// briefly returns the status of a call that failed because of its instances or the
// registry. Its message says only how the call failed. It has the details of st.
func briefly(st *status.Status, code codes.Code, rpc string) *status.Status {
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

// notSent returns the error of a call of which no attempt was made.
func notSent(code codes.Code, text string, causes ...error) error {
	return &callError{status: status.New(code, text), text: text, outcome: NotSent, causes: causes}
}

// isNil reports whether a request is nil, or a nil pointer to a message. grpc-go
// would send an empty message.
func isNil(request any) bool {
	if request == nil {
		return true
	}
	message, ok := request.(proto.Message)
	return ok && !message.ProtoReflect().IsValid()
}

// nilRequest returns the error of a call of an RPC without a request.
func nilRequest(rpc string, outcome Outcome) error {
	text := fmt.Sprintf("%s: the request is nil: pass a message, an empty one if there is nothing to say (%v)", rpc, outcome)
	return &callError{status: status.New(codes.InvalidArgument, text), text: text, outcome: outcome}
}

// maxShownName is how many bytes of a name of an RPC, a path or an API are shown.
const maxShownName = 256

// maxShownText is how many bytes of the text of a peer's or a connection's error are
// shown.
const maxShownText = 1000

// shownText returns the text of a peer's error for an error text: short, on one line.
func shownText(text string) string { return quote.Line(text, maxShownText) }

// shownName returns a name of an RPC, a path or an API for an error text. If the
// program forwards calls, the name may come from outside.
func shownName(name string) string { return quote.Line(name, maxShownName) }

// invalid returns an INVALID_ARGUMENT error. name is the name of the RPC or API, with
// which the text begins. If there is none, it is "onecall: " and the function.
func invalid(name, format string, args ...any) error {
	return notSent(codes.InvalidArgument, shownName(name)+": "+fmt.Sprintf(format, args...))
}

// faulty returns the error of a call if the .proto of the API has an error. name is
// the name of the RPC, or of the API for Describe.
func faulty(name string, err error) error {
	return notSent(codes.Internal, shownName(name)+": "+err.Error(), err)
}

// waitError returns the error of a wait whose context ended.
func waitError(ctx context.Context, text string, causes ...error) error {
	return &callError{
		status: status.FromContextError(ctx.Err()),
		text:   "onecall: " + text,
		causes: append(causes, ctx.Err()),
	}
}
