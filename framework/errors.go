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

// ErrClosed is met by calls on a bus that was closed. Its code is CANCELED.
var ErrClosed error = &callError{status: status.New(codes.Canceled, "the bus is closed"), text: "the bus is closed", outcome: NotSent}

// closedError returns the error of a call of an RPC, or of a question about an
// API, on a bus that was closed.
func closedError(name string, causes ...error) error {
	return notSent(codes.Canceled, name+": "+ErrClosed.Error()+": make calls before Close, or on another bus (the call was not sent)", append([]error{ErrClosed}, causes...)...)
}

// callError is one coded error at the edge: a status for programs, a text for
// people, what is known of the call, and the causes for errors.Is and
// errors.As.
//
// A handler that returns it sends the status to its own caller, which may be an
// outsider. So a status whose cause is discovery or a connection has a message of
// its own, by briefly: addresses, endpoints and the names of other APIs are in
// the text alone.
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

// GRPCStatus returns what status.Code and status.Convert read; of a server's
// error that is what the server sent.
func (e *callError) GRPCStatus() *status.Status { return e.status }

// briefly returns the status of a call that failed for its instances' or the
// registry's sake: what became of it and no more, with the details of st.
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

// notSent is the error of a call that was not even tried.
func notSent(code codes.Code, text string, causes ...error) error {
	return &callError{status: status.New(code, text), text: text, outcome: NotSent, causes: causes}
}

// isNil reports whether a request is nil, or a nil pointer to a message. grpc-go
// would send it as an empty one.
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

// maxShownName bounds the bytes of a name of an RPC, a path or an API in a text.
const maxShownName = 256

// maxShownText bounds the bytes of what a peer, or the way to it, said of a call.
const maxShownText = 1000

// shownText returns what a peer said, for a text: short, and on one line.
func shownText(text string) string { return quote.Line(text, maxShownText) }

// shownName returns a name of an RPC, a path or an API for a text. Where calls are
// passed on, it may come from anywhere.
func shownName(name string) string { return quote.Line(name, maxShownName) }

// invalid returns the INVALID_ARGUMENT error of a call of an RPC, or of a question
// about an API, whose name the text begins with. A text without such a name begins
// with "onecall: " and the function.
func invalid(name, format string, args ...any) error {
	return notSent(codes.InvalidArgument, shownName(name)+": "+fmt.Sprintf(format, args...))
}

// faulty returns the error of a call of an RPC, or of a question about an API, whose
// .proto has an error.
func faulty(name string, err error) error {
	return notSent(codes.Internal, shownName(name)+": "+err.Error(), err)
}

// waitError is what a wait ended with when its context did.
func waitError(ctx context.Context, text string, causes ...error) error {
	return &callError{
		status: status.FromContextError(ctx.Err()),
		text:   "onecall: " + text,
		causes: append(causes, ctx.Err()),
	}
}
