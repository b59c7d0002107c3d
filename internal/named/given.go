package named

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/protopath"
)

// given copies a message that stands for itself, or packs it into an Any.
func (e *encoder) given(t *valueType, message proto.Message, into protoreflect.Message) bool {
	m := reflectOf(message)
	if m == nil || !m.IsValid() {
		return e.isNil()
	}
	name := m.Descriptor().FullName()
	pack := t.message.special == anything && name != t.message.desc.FullName()
	switch {
	case !pack && name != t.message.desc.FullName():
		return e.fail(WrongType, "takes %s, and a message %s was given", t.wants(), clip(string(name), maxTypeEcho))
	case !e.sound(m):
		return false
	case pack:
		return e.pack(message, typePrefix+string(name), into)
	default:
		return e.copyMessage(message, into)
	}
}

// reflectOf gives a message's reflection; nil when it has none. ProtoReflect may
// be anybody's: a struct that embeds a message which is nil is a message to Go,
// and cannot be told from one but by asking.
func reflectOf(message proto.Message) (m protoreflect.Message) {
	defer func() {
		if recover() != nil {
			m = nil
		}
	}()
	m = message.ProtoReflect()
	if m == nil || m.Descriptor() == nil {
		return nil
	}
	return m
}

// sound looks through a message that somebody else made: it must not hold
// itself, hold nil elements or text that is none, lack what proto2 requires, or
// be too large.
func (e *encoder) sound(m protoreflect.Message) bool {
	if !e.enter() {
		return false
	}
	defer e.leave()
	ok := e.charge(len(m.GetUnknown())) && e.complete(m)
	if !ok && e.halt() {
		return false
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		e.push(step{field: string(field.Name())})
		hide := protopath.Redacted(field)
		if hide {
			e.hidden++
		}
		ok = e.soundField(field, v) && ok
		if hide {
			e.hidden--
		}
		e.pop()
		return ok || !e.halt()
	})
	return ok
}

// complete tells whether a message has the fields without which nobody can send it.
func (e *encoder) complete(m protoreflect.Message) bool {
	ok := true
	numbers := m.Descriptor().RequiredNumbers()
	for i := range numbers.Len() {
		if field := m.Descriptor().Fields().ByNumber(numbers.Get(i)); !m.Has(field) {
			ok = e.failAt(string(field.Name()), Missing, missingText, wantsOf(field))
		}
	}
	return ok
}

func (e *encoder) soundField(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	switch {
	case field.IsList():
		return e.soundList(field, v.List())
	case field.IsMap():
		ok := true
		v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
			e.push(step{key: key, hidden: e.hidden > 0})
			ok = e.charge(2) && e.soundValue(field.MapKey(), key.Value()) && e.soundValue(field.MapValue(), v) && ok
			e.pop()
			return ok || !e.halt()
		})
		return ok
	default:
		return e.soundValue(field, v)
	}
}

func (e *encoder) soundList(field protoreflect.FieldDescriptor, values protoreflect.List) bool {
	ok := true
	for i := range values.Len() {
		e.push(step{index: i})
		ok = (field.Message() != nil || e.charge(1)) && e.soundValue(field, values.Get(i)) && ok
		e.pop()
		if !ok && e.halt() {
			return false
		}
	}
	return ok
}

func (e *encoder) soundValue(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if !v.Message().IsValid() {
			return e.isNil()
		}
		return e.charge(2) && e.sound(v.Message())
	case protoreflect.StringKind:
		if field.ParentFile().Syntax() == protoreflect.Proto2 {
			return e.charge(len(v.String()))
		}
		return e.validText(v.String())
	case protoreflect.BytesKind:
		return e.charge(len(v.Bytes()))
	default:
		return true
	}
}
