package validate

import (
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Method is what is checked of an RPC. Its zero value checks nothing. It never
// changes, and is safe for all goroutines.
type Method struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Request and Reply check the messages; nil for one without rules.
	Request, Reply *Checker
}

// Checks reports whether there is anything to check.
func (m Method) Checks() bool { return m.Request != nil || m.Reply != nil }

// CheckRequest returns an *[Error] with the code INVALID_ARGUMENT when a request
// breaks rules, else nil. A nil message counts as an empty one, as which grpc-go
// sends it. The message must not change meanwhile.
func (m Method) CheckRequest(msg any) error {
	if m.Request == nil {
		return nil
	}
	if fault := m.Request.check(m.RPC, msg, false); fault != nil {
		return fault
	}
	return nil
}

// CheckReply returns an *[Error] with the code INTERNAL when a reply breaks rules,
// else nil; otherwise it is like [Method.CheckRequest].
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

// Checker holds messages of one type to its rules. A nil one stands for no
// rules.
type Checker struct {
	descriptor protoreflect.MessageDescriptor
	validator  protovalidate.Validator
	// options are set for types of which one message can break any number of
	// rules: see Checker.violations.
	options []protovalidate.ValidationOption
}

// check returns the error of a message; nil when there is none.
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

// messageOf returns what there is to check of a message: nil when it is none of
// protobuf's.
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

// protoOf returns a message as grpc-go's own codec takes it; nil when it does not.
func protoOf(msg any) proto.Message {
	switch msg := msg.(type) {
	case proto.Message:
		return msg
	case protoadapt.MessageV1:
		return protoadapt.MessageV2Of(msg)
	}
	return nil
}
