package protoargs

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/nearest"
	"github.com/onecall-dev/onecall/internal/quote"
)

// wrongType reports a value that the type does not accept.
func (e *encoder) wrongType(t *valueType, v any) bool {
	switch {
	case isDuration(v) && t.message == nil && t.enum == nil:
		return e.fail(WrongType, "takes %s, and a time.Duration was given: say the unit, such as d.Milliseconds()", t.wants())
	case isMessageStruct(v):
		return e.fail(WrongType, "takes %s, and a %s was given by value: give a pointer to it", t.wants(), goType(v))
	default:
		return e.fail(WrongType, "takes %s, and %s was given", t.wants(), goType(v))
	}
}

func isDuration(v any) bool {
	_, ok := v.(time.Duration)
	return ok
}

// wants describes in Go's terms the values that the field accepts.
func (f *field) wants() string {
	switch f.shape {
	case list:
		return "a slice, of which each element is " + f.value.wants()
	case mapped:
		return fmt.Sprintf("a map with keys of %s, of which each value is %s", f.key.text(), f.value.wants())
	default:
		return f.value.wants()
	}
}

// wantsOf is wants for a field that is not in a plan.
func wantsOf(field protoreflect.FieldDescriptor) string {
	return compileField(field, make(map[protoreflect.MessageDescriptor]*message)).wants()
}

// wants describes in Go's terms the values that the type accepts.
func (t *valueType) wants() string {
	switch t.kind {
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BytesKind:
		return "a []byte"
	case protoreflect.BoolKind:
		return "a bool"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "a number (" + t.kind.String() + ")"
	case protoreflect.EnumKind:
		return fmt.Sprintf("the name of a value of %s, such as %q", t.text(), anyName(t.enum))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return t.message.wants()
	default:
		return "an integer (" + t.kind.String() + ")"
	}
}

func (m *message) wants() string {
	switch m.special {
	case timestamp:
		return "a time.Time"
	case duration:
		return "a time.Duration"
	case object:
		return "a map[string]any of what JSON can say"
	case jsonValue:
		return "what JSON can say: nil, a bool, number, string, []any or map[string]any"
	case jsonList:
		return "a []any of what JSON can say"
	case fieldMask:
		return "a []string of paths"
	case anyMessage:
		return `a proto.Message, or a map with its fields and "@type"`
	case wrapper:
		return m.fields[0].wants()
	default:
		return fmt.Sprintf("the fields of %s as framework.Args or a struct", quote.Clip(string(m.desc.FullName()), maxTypeEcho))
	}
}

// noSuchName reports a name that an enum does not have.
func (e *encoder) noSuchName(t *valueType, name string) bool {
	if e.hidden > 0 || e.full() {
		return e.fail(NoSuchValue, "is no name of a value of %s", t.text())
	}
	values := t.enum.Values()
	names := make([]string, 0, values.Len())
	for i := range values.Len() {
		names = append(names, string(values.Get(i).Name()))
	}
	if near := nearest.Names(name, names, 1); len(near) > 0 {
		return e.fail(NoSuchValue, "is %s, which is no value of %s: did you mean %s?", quote.Quoted(name, maxValueEcho), t.text(), near[0])
	}
	return e.fail(NoSuchValue, "is %s, which is no value of %s: it has %s", quote.Quoted(name, maxValueEcho), t.text(), quote.Clip(listed(names, "and"), maxPath))
}

// anyName returns the name of a value of an enum as an example, if possible not that of zero.
func anyName(enum protoreflect.EnumDescriptor) string {
	values := enum.Values()
	for i := range values.Len() {
		if values.Get(i).Number() != 0 {
			return quote.Clip(string(values.Get(i).Name()), maxNameEcho)
		}
	}
	if values.Len() == 0 {
		return "…"
	}
	return quote.Clip(string(values.Get(0).Name()), maxNameEcho)
}
