package validate

import (
	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Violation is one rule that a message breaks.
type Violation struct {
	// Field is the path of the field in its proto names, such as `items[2].price`
	// or `labels["a"]`; "" for the message as a whole. A path of more than 1024
	// bytes, or a key of more than 256, ends in an ellipsis.
	Field string
	// Rule is the rule's id, such as "string.min_len"; "unknown_field" for a
	// field that the message's type does not have.
	Rule string
	// Message says what is wrong; of what may not be shown, only which rule is
	// broken.
	Message string
	// Hidden reports that the field, or one that it is in, is marked
	// debug_redact.
	Hidden bool
}

// Error is a message that breaks its rules. Its gRPC code is INVALID_ARGUMENT
// for a request and INTERNAL for a reply.
type Error struct {
	// RPC is the call's bus name, such as "auth.check_password".
	RPC string
	// Reply reports that it is a reply; else it is a request.
	Reply bool
	// Violations are all that were found, of a very large message the first.
	Violations []Violation

	// own are the violations as protovalidate returned them; nil when it did not
	// find them.
	own []*validate.Violation
	// more is how many there are besides Violations; partial says that there
	// may be any number.
	more    int
	partial bool
}

// newError makes the error of a message of type root.
func newError(rpc string, reply bool, root protoreflect.MessageDescriptor, found []*protovalidate.Violation, partial bool) *Error {
	e := &Error{RPC: rpc, Reply: reply, Violations: make([]Violation, len(found)), own: make([]*validate.Violation, len(found)), partial: partial}
	viewer := newViewer(root)
	for i, violation := range found {
		e.own[i], e.Violations[i] = viewer.view(violation)
		if reply {
			e.own[i].ClearMessage()
		}
	}
	return e
}

// Error implements error. It has the first 10 violations, and how many more
// there are; of a reply, which the peer has no part in, their fields and rules
// alone, and nothing of hidden fields but their number.
func (e *Error) Error() string {
	shown, hidden := e.shown()
	return e.text(shown, hidden)
}

// GRPCStatus returns the status that a server sends and status.Code reads. Its
// details are a buf.validate.Violations and, of a request, a
// google.rpc.BadRequest. A status travels in headers, of which some peers take
// no more than 8 KiB, so the details hold as many violations as fit, and the
// text says when these are not all.
func (e *Error) GRPCStatus() *status.Status {
	shown, hidden := e.shown()
	code := codes.InvalidArgument
	if e.Reply {
		code = codes.Internal
	}
	sent := status.New(code, e.text(shown, hidden))
	detailed, err := sent.WithDetails(e.details(shown)...)
	if err != nil {
		return sent
	}
	return detailed
}

// sentViolation is a violation for the details of a status.
type sentViolation struct {
	Violation

	// own is protovalidate's; nil when it did not find it, or when it is long.
	own *validate.Violation
}

// shown returns the violations that others may see, and how many there are
// besides: those of hidden fields in a reply.
func (e *Error) shown() (shown []sentViolation, hidden int) {
	shown = make([]sentViolation, 0, len(e.Violations))
	for i, violation := range e.Violations {
		if e.Reply && violation.Hidden {
			hidden++
			continue
		}
		next := sentViolation{Violation: violation}
		if i < len(e.own) {
			next.own = e.own[i]
		}
		shown = append(shown, next)
	}
	return shown, hidden
}
