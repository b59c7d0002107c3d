package validate

import (
	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
)

// reached describes the messages that a type contains, at any depth.
type reached struct {
	// messages are the types with rules of their own. rules is the number of their
	// parts that have rules.
	messages []protoreflect.MessageDescriptor
	rules    int
	// unbounded is true if one message can have any number of parts: it contains
	// lists, maps or messages of its own type.
	unbounded bool

	seen map[protoreflect.MessageDescriptor]bool
}

// reach describes the messages that a type contains. It skips fields that protovalidate
// ignores.
func reach(descriptor protoreflect.MessageDescriptor) (reached, error) {
	r := reached{seen: make(map[protoreflect.MessageDescriptor]bool)}
	err := r.add(descriptor)
	return r, err
}

func (r *reached) add(descriptor protoreflect.MessageDescriptor) error {
	if r.seen[descriptor] {
		r.unbounded = true // it contains itself, or two other types contain it
		return nil
	}
	r.seen[descriptor] = true
	rules, err := protovalidate.ResolveMessageRules(descriptor)
	if err != nil {
		return unreadable(descriptor, err)
	}
	before := r.rules
	if rules != nil && proto.Size(rules) > 0 {
		r.rules++
	}
	for i := range descriptor.Oneofs().Len() {
		rules, err := protovalidate.ResolveOneofRules(descriptor.Oneofs().Get(i))
		if err != nil {
			return unreadable(descriptor.Oneofs().Get(i), err)
		}
		if rules.GetRequired() {
			r.rules++
		}
	}
	ruled := r.rules > before
	for i := range descriptor.Fields().Len() {
		own, err := r.addField(descriptor.Fields().Get(i))
		if err != nil {
			return err
		}
		if own {
			ruled = true
			r.rules++
		}
	}
	if ruled {
		r.messages = append(r.messages, descriptor)
	}
	return nil
}

// addField adds the messages of a field. ruled reports whether the field itself has rules.
func (r *reached) addField(field protoreflect.FieldDescriptor) (ruled bool, err error) {
	rules, err := protovalidate.ResolveFieldRules(field)
	if err != nil {
		return false, unreadable(field, err)
	}
	if rules.GetIgnore() == validate.Ignore_IGNORE_ALWAYS {
		return false, nil
	}
	if field.Cardinality() == protoreflect.Repeated {
		r.unbounded = true
	}
	if held := fieldpath.MessageIn(field); held != nil {
		err = r.add(held)
	}
	return rules != nil && proto.Size(rules) > 0, err
}

func unreadable(subject protoreflect.Descriptor, err error) error {
	return &RuleError{Subject: string(subject.FullName()), Problem: "its validation rules cannot be read: " + err.Error(), Cause: err}
}
