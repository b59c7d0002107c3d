package atmostonce

import (
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
)

// Outcome is what is known of a call that failed: did its handler start?
type Outcome int

// The outcomes.
const (
	// Unknown: it may have run or not. All is unknown that is not known for
	// certain, deadlines and broken connections included.
	Unknown Outcome = iota
	// NotSent: no attempt ever got a stream, so it did not run and never will.
	NotSent
	// Refused: the instance that it was bound to says that it marked the call
	// and did not run its handler, so that nobody ever will.
	Refused
	// Executed: the handler ran, and this is its error.
	Executed
)

// String gives the outcome in words.
func (o Outcome) String() string {
	switch o {
	case Unknown:
		return "it is not known whether the call ran"
	case NotSent:
		return "the call was not sent"
	case Refused:
		return "the call was refused and did not run"
	case Executed:
		return "the call ran"
	default:
		return fmt.Sprintf("Outcome(%d)", int(o))
	}
}

// told reads what the trailer of an error reply says, and whether it is from the
// instance that the call was bound to; another one's is not believed.
func told(trailer metadata.MD, bound discovery.Incarnation) (outcome Outcome, fromBound bool) {
	says, from := trailer[OutcomeKey], trailer[IncarnationKey]
	if len(from) != 1 || bound.IsZero() || from[0] != bound.String() {
		return Unknown, false
	}
	if len(says) != 1 {
		return Unknown, len(says) == 0
	}
	switch says[0] {
	case OutcomeRefused:
		return Refused, true
	case OutcomeExecuted:
		return Executed, true
	default:
		return Unknown, true
	}
}

// answered reports whether the error of a call is the status of a reply. What
// arrived in trailers is: a reply of nothing but a status has the content type
// there. And some codes are never made by a gRPC library
// (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
func answered(info balancer.DoneInfo) bool {
	if !info.BytesReceived && len(info.Trailer) == 0 {
		return false
	}
	switch status.Code(info.Err) {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.DataLoss:
		return true
	default:
		return len(info.Trailer) > 0
	}
}
