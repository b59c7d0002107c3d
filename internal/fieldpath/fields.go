// Package fieldpath describes where a value is in a message, and whether it may be shown.
package fieldpath

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Redacted reports whether a field's value must not appear in any error, detail or log line.
func Redacted(field protoreflect.FieldDescriptor) bool {
	options, ok := field.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact()
}

// MessageIn returns the message type of a field, of its elements, or of its map's values.
// It returns nil if they are not messages.
func MessageIn(field protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if field.IsMap() {
		return field.MapValue().Message()
	}
	return field.Message()
}
