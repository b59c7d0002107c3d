package contract

import "google.golang.org/protobuf/reflect/protoreflect"

// Required reports whether a call by name must set a field. It must, unless the field is
// optional, repeated, a map or in a oneof. Editions have no keyword for optional, so there
// a field with presence may be omitted, unless it is LEGACY_REQUIRED. A message field may
// also be omitted if its message would require another message of the same type without
// end, such as a Node in a Node.
func Required(field protoreflect.FieldDescriptor) bool {
	if !declaredRequired(field) {
		return false
	}
	message := field.Message()
	return message == nil || !leadsTo(message, field.ContainingMessage(), make(map[protoreflect.MessageDescriptor]bool))
}

// declaredRequired is Required without the exception for recursive messages.
func declaredRequired(field protoreflect.FieldDescriptor) bool {
	switch {
	case field.Cardinality() == protoreflect.Required:
		return true
	case field.Cardinality() == protoreflect.Repeated, field.ContainingOneof() != nil, field.HasOptionalKeyword(), field.IsExtension():
		return false
	default:
		return field.ParentFile().Syntax() != protoreflect.Editions || !field.HasPresence()
	}
}

// leadsTo reports whether required fields lead from one message type to another.
func leadsTo(from, to protoreflect.MessageDescriptor, seen map[protoreflect.MessageDescriptor]bool) bool {
	if from == to {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	fields := from.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if message := field.Message(); message != nil && declaredRequired(field) && leadsTo(message, to, seen) {
			return true
		}
	}
	return false
}
