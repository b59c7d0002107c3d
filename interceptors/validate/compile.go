package validate

import (
	"errors"
	"sync"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// RuleError is a rule that does not compile: an expression with an error, a rule
// for another type than its field's, a predefined rule that is not known.
type RuleError struct {
	// Subject is the full proto name of the message, field or oneof that has the
	// rule.
	Subject string
	// Problem says what is wrong with it.
	Problem string
	// Cause is the error as it came from protovalidate.
	Cause error
}

// Error implements error.
func (e *RuleError) Error() string {
	return e.Subject + ": " + e.Problem + ": mend the rule in the .proto file"
}

// Unwrap returns the cause.
func (e *RuleError) Unwrap() error { return e.Cause }

// Compile compiles the rules of a method's request and reply and of all that
// their fields may hold. rpc is the bus name. A rule that does not compile is a
// *[RuleError].
//
// All methods share protovalidate's one validator of the process, which keeps
// what it compiled for ever, and which is not made before the first rule is
// there to compile. It suits the descriptors that are part of the program; for
// others there is [NewCompiler].
func Compile(rpc string, method protoreflect.MethodDescriptor) (Method, error) {
	return (&Compiler{made: sync.OnceValues(shared)}).Compile(rpc, method)
}

func shared() (protovalidate.Validator, error) { return protovalidate.GlobalValidator, nil }

// Compiler compiles the rules of a schema that is no part of the program, such
// as one that was read from a registry. What it compiled is freed with it and
// the methods it returned. It is safe for concurrent use.
type Compiler struct {
	made func() (protovalidate.Validator, error)
	// most is how many parts of a message may have rules; 0 is any number.
	most int
}

// mostForeign is how many parts, such as fields, of a message and of all that it
// may hold may have rules, in a schema that is no part of the program: each takes
// up to a millisecond to compile. A message with more is not checked, but by the
// service.
const mostForeign = 500

// NewCompiler makes the compiler of a schema. types finds the schema's
// predefined rules, which are extensions, such as dynamicpb.NewTypes of its
// files; nil when those of the program will do. The first rule that it compiles
// costs a millisecond and some 400 KiB more than another one does in a compiler
// that exists. A message with rules in more than 500 parts, such as fields, has
// none here.
func NewCompiler(types protoregistry.ExtensionTypeResolver) *Compiler {
	var options []protovalidate.ValidatorOption
	if types != nil {
		options = append(options, protovalidate.WithExtensionTypeResolver(types))
	}
	return &Compiler{made: sync.OnceValues(func() (protovalidate.Validator, error) { return protovalidate.New(options...) }), most: mostForeign}
}

// Compile compiles the rules of a method: see the function [Compile].
func (c *Compiler) Compile(rpc string, method protoreflect.MethodDescriptor) (Method, error) {
	request, err := c.checker(method.Input())
	if err != nil {
		return Method{}, err
	}
	reply, err := c.checker(method.Output())
	if err != nil {
		return Method{}, err
	}
	return Method{RPC: rpc, Request: request, Reply: reply}, nil
}

// checker returns the checker of a type; nil for one without rules.
func (c *Compiler) checker(descriptor protoreflect.MessageDescriptor) (*Checker, error) {
	ruled, err := reach(descriptor)
	if err != nil || len(ruled.messages) == 0 || c.most > 0 && ruled.rules > c.most {
		return nil, err
	}
	validator, err := c.made()
	if err != nil {
		return nil, &RuleError{Subject: string(descriptor.FullName()), Problem: "protovalidate cannot be set up", Cause: err}
	}
	if err := compile(validator, ruled.messages); err != nil {
		return nil, err
	}
	checker := &Checker{descriptor: descriptor, validator: validator}
	if ruled.unbounded {
		checker.options = []protovalidate.ValidationOption{protovalidate.WithFailFast()}
	}
	return checker, nil
}

// compile has the rules of messages compiled, and finds those that do not.
//
// protovalidate compiles at the first use of a type, and keeps an error until a
// message is checked that the rule applies to. So each rule is applied to an
// empty message here, and its result does not matter. Errors of
// messages as a whole come first, since they are also reported of each field
// that holds one.
func compile(validator protovalidate.Validator, messages []protoreflect.MessageDescriptor) error {
	for _, descriptor := range messages {
		if err := apply(validator, descriptor, descriptor); err != nil {
			return err
		}
	}
	for _, descriptor := range messages {
		for part := range partsBelow(descriptor) {
			if err := apply(validator, descriptor, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply returns the error of the rules of one part of a message.
func apply(validator protovalidate.Validator, descriptor protoreflect.MessageDescriptor, part protoreflect.Descriptor) error {
	empty := dynamicpb.NewMessage(descriptor)
	err := validator.Validate(empty, only(empty, part))
	var compilation *protovalidate.CompilationError
	if !errors.As(err, &compilation) {
		return nil
	}
	problem := err.Error()
	if cause := compilation.Unwrap(); cause != nil {
		problem = cause.Error()
	}
	return &RuleError{Subject: string(part.FullName()), Problem: "a validation rule does not compile: " + problem, Cause: err}
}

// partsBelow returns the parts of a message that have rules of their own, but for
// the message as a whole.
func partsBelow(descriptor protoreflect.MessageDescriptor) func(yield func(protoreflect.Descriptor) bool) {
	return func(yield func(protoreflect.Descriptor) bool) {
		for i := range descriptor.Oneofs().Len() {
			if !yield(descriptor.Oneofs().Get(i)) {
				return
			}
		}
		for i := range descriptor.Fields().Len() {
			if !yield(descriptor.Fields().Get(i)) {
				return
			}
		}
	}
}

// only lets the rules of one part of a message be applied, and all of what the
// part holds.
func only(whole protoreflect.ProtoMessage, part protoreflect.Descriptor) protovalidate.ValidationOption {
	root := whole.ProtoReflect()
	return protovalidate.WithFilter(protovalidate.FilterFunc(func(message protoreflect.Message, descriptor protoreflect.Descriptor) bool {
		return message != root || descriptor == part
	}))
}
