package validate

import (
	"errors"
	"sync"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// RuleError is a rule that does not compile: an expression with an error, a rule for
// another type than that of its field, or an unknown predefined rule.
type RuleError struct {
	// Subject is the full proto name of the message, field or oneof with the rule.
	Subject string
	// Problem says what is wrong with the rule.
	Problem string
	// Cause is protovalidate's error.
	Cause error
}

// Error implements error.
func (e *RuleError) Error() string {
	return e.Subject + ": " + e.Problem + ": correct the rule in the .proto file"
}

// Unwrap returns the cause.
func (e *RuleError) Unwrap() error { return e.Cause }

// Compile compiles the rules of a method's request and reply, and of all messages that
// their fields may contain. rpc is the bus name. If a rule does not compile, Compile
// returns a *[RuleError].
//
// All methods share protovalidate's global validator. It is created when the first rule
// is compiled, and it never frees compiled rules. Use it for descriptors that are linked
// into the program, and [NewCompiler] for others.
func Compile(rpc string, method protoreflect.MethodDescriptor) (Method, error) {
	return (&Compiler{made: shared}).Compile(rpc, method)
}

func shared() (protovalidate.Validator, error) { return protovalidate.GlobalValidator, nil }

// Compiler compiles the rules of a schema that is not linked into the program, such as
// one from a registry. Compiled rules are freed together with the Compiler and the
// methods that it returned. It is safe for concurrent use.
type Compiler struct {
	made func() (protovalidate.Validator, error)
	// most is the most parts of a message that may have rules; 0 means any number.
	most int
}

// mostForeign is the most parts, such as fields, that may have rules in one message and
// all that it contains, for a schema that is not linked into the program. Each part takes
// up to a millisecond to compile. A message with more parts is not checked here, only by
// the service.
const mostForeign = 500

// NewCompiler returns a compiler for one schema. types finds the schema's predefined
// rules, which are extensions: dynamicpb.NewTypes of the schema's files is such a
// resolver. The first rule takes about a millisecond and 400 KiB more than later ones. A
// message with rules in more than 500 parts, such as fields, is not checked.
func NewCompiler(types protoregistry.ExtensionTypeResolver) *Compiler {
	return &Compiler{made: sync.OnceValues(func() (protovalidate.Validator, error) {
		return protovalidate.New(protovalidate.WithExtensionTypeResolver(types))
	}), most: mostForeign}
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

// compiling is held while rules are compiled: cel-go then writes to variables of its
// package without a lock.
var compiling sync.Mutex

// checker returns the checker of a type, or nil if the type has no rules.
func (c *Compiler) checker(descriptor protoreflect.MessageDescriptor) (*Checker, error) {
	ruled, err := reach(descriptor)
	if err != nil || len(ruled.messages) == 0 || c.most > 0 && ruled.rules > c.most {
		return nil, err
	}
	compiling.Lock()
	defer compiling.Unlock()
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

// compile compiles the rules of messages and returns the first error.
//
// protovalidate compiles the rules of a type when it is first used, and returns a compile
// error only if the rule applies to the checked message. So compile applies each rule to
// an empty message and ignores the result. It checks the rules of whole messages first,
// because their errors also appear for each field with such a message.
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

// apply returns the compile error of the rules of one part of a message.
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

// partsBelow returns the oneofs and fields of a message, but not the message itself.
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

// only restricts validation to the rules of one part of a message and of everything in
// that part.
func only(whole protoreflect.ProtoMessage, part protoreflect.Descriptor) protovalidate.ValidationOption {
	root := whole.ProtoReflect()
	return protovalidate.WithFilter(protovalidate.FilterFunc(func(message protoreflect.Message, descriptor protoreflect.Descriptor) bool {
		return message != root || descriptor == part
	}))
}
