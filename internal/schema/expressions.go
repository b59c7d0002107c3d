package schema

import (
	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/reflect/protoreflect"
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

// dropExpressions removes all rules that are expressions from a part of a set of files.
func dropExpressions(part protoreflect.Message) {
	switch part.Interface().(type) {
	case *validate.MessageRules, *validate.FieldRules:
		dropFromRules(part)
		return
	}
	part.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for i := range value.List().Len() {
				dropExpressions(value.List().Get(i).Message())
			}
		default:
			dropExpressions(value.Message())
		}
		return true
	})
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
