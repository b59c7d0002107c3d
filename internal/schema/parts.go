package schema

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// maxParts and maxNesting bound the messages, fields, options and so on of
// descriptors that come from a registry: an empty one has two bytes there, which
// compress to next to nothing, and some hundred in memory.
const (
	maxParts   = 200_000
	maxNesting = 100
)

// fewParts tells whether a message, as bytes, has no more messages and texts of lists
// within it than are allowed. Bytes that are no message are left to who reads them.
func fewParts(of protoreflect.MessageDescriptor, data []byte) bool {
	left := maxParts
	return countParts(of, data, maxNesting, &left)
}

func countParts(of protoreflect.MessageDescriptor, data []byte, depth int, left *int) bool {
	if depth == 0 {
		return false
	}
	for len(data) > 0 {
		number, kind, size := protowire.ConsumeTag(data)
		if size < 0 {
			return true
		}
		value := data[size:]
		size = protowire.ConsumeFieldValue(number, kind, value)
		if size < 0 {
			return true
		}
		data = value[size:]
		field := fieldOf(of, number)
		if field == nil || kind != protowire.BytesType || field.Message() == nil && !field.IsList() {
			continue
		}
		*left--
		if *left < 0 {
			return false
		}
		content, _ := protowire.ConsumeBytes(value)
		if field.Message() != nil && !countParts(field.Message(), content, depth-1, left) {
			return false
		}
	}
	return true
}

// fieldOf gives a field, which may be an option that the program knows; nil when
// there is none.
func fieldOf(of protoreflect.MessageDescriptor, number protoreflect.FieldNumber) protoreflect.FieldDescriptor {
	if field := of.Fields().ByNumber(number); field != nil {
		return field
	}
	if extension, err := protoregistry.GlobalTypes.FindExtensionByNumber(of.FullName(), number); err == nil {
		return extension.TypeDescriptor()
	}
	return nil
}
