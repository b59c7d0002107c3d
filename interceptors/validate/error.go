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
	// bytes, or a key of more than 256, is cut and ends in an ellipsis.
	Field string
	// Rule is the rule's id, such as "string.min_len"; "unknown_field" for a
	// field that the message's type does not have.
	Rule string
	// Message says what is wrong. If the value is hidden, it names only the rule.
	Message string
	// Hidden is true if the field, or a field that contains it, is marked debug_redact.
	Hidden bool
}

// Error says that a message breaks its rules. Its gRPC code is INVALID_ARGUMENT for a
// request and INTERNAL for a reply.
type Error struct {
	// RPC is the call's bus name, such as "auth.check_password".
	RPC string
	// Reply is true for a reply and false for a request.
	Reply bool
	// Violations are all violations, or only the first if the message is very large.
	Violations []Violation

	// own are protovalidate's violations, nil if protovalidate did not find them.
	own []*validate.Violation
	// more is the number of violations that are not in Violations. partial is true
	// if there may be further ones that were not counted.
	more    int
	partial bool
}

// newError returns the error of a message of type root.
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

// Error implements error. It shows the first 10 violations and the number of the others.
// A reply is not the peer's mistake, so its violations show only fields and rules, and
// those of hidden fields are only counted.
func (e *Error) Error() string {
	shown, hidden := e.shown()
	return e.text(shown, hidden)
}

// GRPCStatus returns the status that a server sends and status.Code reads. Its details
// are buf.validate.Violations and, for a request, google.rpc.BadRequest. A status is sent
// in headers, and some peers accept at most 8 KiB of them. So the details contain as many
// violations as fit, and the text says so if some are missing.
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

// sentViolation is a violation in the details of a status.
type sentViolation struct {
	Violation

	// own is protovalidate's violation, nil if it did not find it.
	own *validate.Violation
}

// shown returns the violations that peers may see, and the number of those that they may
// not see: those of hidden fields in a reply.
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
