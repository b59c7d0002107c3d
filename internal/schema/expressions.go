package schema

import (
	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// WithoutExpressions returns the schema without rules that are expressions: those in CEL,
// and predefined ones, which are also CEL. Otherwise the writer of a schema in a registry
// could make each caller compute without end. The standard rules remain, and the service
// still checks all rules. A schema that is linked into the program is returned unchanged.
//
// The first call reads the descriptors again, and the schema caches the result.
func (s *Schema) WithoutExpressions() (*Schema, error) {
	if s.bare == nil {
		return s, nil
	}
	return s.bare()
}

// dropExpressions removes all rules that are expressions from the files of a set.
func dropExpressions(set *descriptorpb.FileDescriptorSet) {
	for _, file := range set.GetFile() {
		for _, message := range file.GetMessageType() {
			dropFromMessage(message)
		}
		for _, extension := range file.GetExtension() {
			dropFromOptions(extension.GetOptions())
		}
	}
}

func dropFromMessage(message *descriptorpb.DescriptorProto) {
	dropFromOptions(message.GetOptions())
	for _, field := range message.GetField() {
		dropFromOptions(field.GetOptions())
	}
	for _, extension := range message.GetExtension() {
		dropFromOptions(extension.GetOptions())
	}
	for _, nested := range message.GetNestedType() {
		dropFromMessage(nested)
	}
}

// dropFromOptions removes expressions from the options of one part.
func dropFromOptions(options proto.Message) {
	if !options.ProtoReflect().IsValid() {
		return
	}
	for _, extension := range []protoreflect.ExtensionType{validate.E_Message, validate.E_Field} {
		if proto.HasExtension(options, extension) {
			if rules, ok := proto.GetExtension(options, extension).(proto.Message); ok {
				dropFromRules(rules.ProtoReflect())
			}
		}
	}
}

// dropFromRules removes expressions from rules, and from the rules of elements, keys and
// values. Predefined rules are extensions, which this program may not know.
func dropFromRules(rules protoreflect.Message) {
	rules.SetUnknown(nil)
	var dropped []protoreflect.FieldDescriptor
	rules.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsExtension(), field.Name() == "cel", field.Name() == "cel_expression":
			dropped = append(dropped, field)
		case field.Message() != nil && !field.IsList() && !field.IsMap():
			dropFromRules(value.Message())
		}
		return true
	})
	for _, field := range dropped {
		rules.Clear(field)
	}
}
