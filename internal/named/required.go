package named

import "google.golang.org/protobuf/reflect/protoreflect"

// Required tells whether a field must be given in a call by name. It must,
// unless it is optional, repeated, a map or in a oneof. Editions have no word
// for optional: there a field with presence may be left out, but for one that is
// LEGACY_REQUIRED. A message field through which a message would have to hold
// itself without end, such as Node in Node, may be left out too.
func Required(field protoreflect.FieldDescriptor) bool {
	if !declaredRequired(field) {
		return false
	}
	inner := field.Message()
	return inner == nil || !leadsTo(inner, field.ContainingMessage(), make(map[protoreflect.MessageDescriptor]bool))
}

// declaredRequired is Required but for messages that hold themselves.
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

// leadsTo tells whether required fields lead from a message to another.
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
		if inner := field.Message(); inner != nil && declaredRequired(field) && leadsTo(inner, to, seen) {
			return true
		}
	}
	return false
}
