package validate

import (
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Method contains the checks of one RPC. Its zero value checks nothing. It is immutable
// and safe for concurrent use.
type Method struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Request and Reply check the messages; nil if the message type has no rules.
	Request, Reply *Checker
}

// Checks reports whether a message of the method has rules.
func (m Method) Checks() bool { return m.Request != nil || m.Reply != nil }

// CheckRequest returns an *[Error] with the code INVALID_ARGUMENT if a request breaks
// rules, else nil. A nil message is checked as an empty one, because grpc-go sends it as
// an empty one. The message must not change during the call.
func (m Method) CheckRequest(msg any) error {
	if m.Request == nil {
		return nil
	}
	if fault := m.Request.check(m.RPC, msg, false); fault != nil {
		return fault
	}
	return nil
}

// CheckReply returns an *[Error] with the code INTERNAL if a reply breaks rules, else
// nil. Otherwise it is like [Method.CheckRequest].
func (m Method) CheckReply(msg any) error {
	if fault := m.checkReply(msg); fault != nil {
		return fault
	}
	return nil
}

func (m Method) checkReply(msg any) *Error {
	if m.Reply == nil {
		return nil
	}
	return m.Reply.check(m.RPC, msg, true)
}

// Checker checks messages of one type against its rules. A nil Checker means that there
// are no rules.
type Checker struct {
	descriptor protoreflect.MessageDescriptor
	validator  protovalidate.Validator
	// options are set for types whose messages can break any number of rules: see
	// Checker.violations.
	options []protovalidate.ValidationOption
}

// check returns the error of a message, nil if it breaks no rule.
func (c *Checker) check(rpc string, msg any, reply bool) *Error {
	message := c.messageOf(msg)
	if message == nil {
		return nil
	}
	err := c.validator.Validate(message, c.options...)
	if err == nil {
		return nil
	}
	found, partial := c.violations(message, err)
	return newError(rpc, reply, message.ProtoReflect().Descriptor(), found, partial)
}

// messageOf returns the message to check, nil if msg is not a protobuf message.
func (c *Checker) messageOf(msg any) proto.Message {
	message := protoOf(msg)
	switch {
	case msg == nil:
		return dynamicpb.NewMessage(c.descriptor)
	case message == nil:
		return nil
	case !message.ProtoReflect().IsValid(): // a nil pointer
		return message.ProtoReflect().Type().New().Interface()
	}
	return message
}

// protoOf returns msg as grpc-go's codec reads it, nil if that codec does not accept it.
func protoOf(msg any) proto.Message {
	switch msg := msg.(type) {
	case proto.Message:
		return msg
	case protoadapt.MessageV1:
		return protoadapt.MessageV2Of(msg)
	}
	return nil
}
