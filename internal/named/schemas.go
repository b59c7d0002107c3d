package named

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// misfit names the first field of a message that another definition of its type
// would read as something else; "" when there is none. A message goes from one
// definition to another as bytes, and those tell a field by its number alone, and
// nothing of its kind but how long it is. What the other does not have stays
// unknown there.
func misfit(m protoreflect.Message, to protoreflect.MessageDescriptor) (path string) {
	if m.Descriptor() == to {
		return ""
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		other := to.Fields().ByNumber(field.Number())
		switch {
		case field.IsExtension() || other == nil:
		case !readAlike(field, other):
			path = string(field.Name())
		default:
			if inner, ok := misfitIn(field, other, v); !ok {
				path = string(field.Name()) + inner
			}
		}
		return path == ""
	})
	return path
}

// readAlike tells whether a value of one field is one of the other.
func readAlike(a, b protoreflect.FieldDescriptor) bool {
	same := a.Name() == b.Name() && a.Kind() == b.Kind() && a.IsList() == b.IsList() && a.IsMap() == b.IsMap()
	if same && a.IsMap() {
		return a.MapKey().Kind() == b.MapKey().Kind() && a.MapValue().Kind() == b.MapValue().Kind()
	}
	return same
}

// misfitIn looks into the values of a field; inner is where below it, "" for the
// field itself.
func misfitIn(field, other protoreflect.FieldDescriptor, v protoreflect.Value) (inner string, ok bool) {
	ok = true
	look := func(field, other protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.Message() != nil:
			if below := misfit(v.Message(), other.Message()); below != "" {
				inner, ok = "."+below, false
			}
		case field.Enum() != nil:
			ok = sameValue(field.Enum().Values().ByNumber(v.Enum()), other.Enum().Values().ByNumber(v.Enum()))
		}
		return ok
	}
	switch {
	case field.IsMap():
		v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
			return look(field.MapValue(), other.MapValue(), v)
		})
	case field.IsList():
		for i := range v.List().Len() {
			if !look(field, other, v.List().Get(i)) {
				break
			}
		}
	default:
		look(field, other, v)
	}
	return inner, ok
}

// sameValue tells whether two values of an enum, of one number, are the same; one
// that is not declared is the number alone.
func sameValue(a, b protoreflect.EnumValueDescriptor) bool {
	return a == nil || b == nil || a.Name() == b.Name()
}

// misread tells whether a message that was read from another schema's bytes has
// values that could not be read: fields that it does declare, and that came as
// another type.
func misread(m protoreflect.Message) (found bool) {
	for unknown := m.GetUnknown(); len(unknown) > 0; {
		number, _, size := protowire.ConsumeField(unknown)
		if size < 0 || m.Descriptor().Fields().ByNumber(number) != nil {
			return true
		}
		unknown = unknown[size:]
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				found = misread(v.Message())
				return !found
			})
		case field.IsList() && field.Message() != nil:
			for i := range v.List().Len() {
				found = found || misread(v.List().Get(i).Message())
			}
		case !field.IsMap() && !field.IsList() && field.Message() != nil:
			found = misread(v.Message())
		}
		return !found
	})
	return found
}
