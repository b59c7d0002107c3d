// Package fieldpath says where in a message something is, and what of it may be
// shown.
package fieldpath

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Redacted reports whether no error, detail or log line may show a field's value.
func Redacted(field protoreflect.FieldDescriptor) bool {
	options, ok := field.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact()
}

// MessageIn returns the type of the messages that a field, its elements or its map's
// values are, nil if they are no messages.
func MessageIn(field protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if field.IsMap() {
		return field.MapValue().Message()
	}
	return field.Message()
}
