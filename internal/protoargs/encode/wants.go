package encode

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/nearest"
	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/quote"
)

// wrongType reports a value that a message, or a field of one value, does not accept.
func (e *encoder) wrongType(of protoreflect.Descriptor, v any) bool {
	wanted, isNumber := "", false
	switch of := of.(type) {
	case protoreflect.MessageDescriptor:
		wanted = wantsMessage(of)
	case protoreflect.FieldDescriptor:
		wanted, isNumber = wantsOne(of), of.Enum() == nil
	}
	switch {
	case isNumber && reflect.TypeOf(v) == protoargs.DurationType:
		return e.fail(WrongType, "takes %s, and a time.Duration was given: say the unit, such as d.Milliseconds()", wanted)
	case isMessageStruct(v):
		return e.fail(WrongType, "takes %s, and a %s was given by value: give a pointer to it", wanted, protoargs.TypeOf(v))
	default:
		return e.fail(WrongType, "takes %s, and %s was given", wanted, protoargs.TypeOf(v))
	}
}

// wants describes in Go's terms the values that the field accepts.
func wants(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsList():
		return "a slice, of which each element is " + wantsOne(field)
	case field.IsMap():
		return fmt.Sprintf("a map with keys of %s, of which each value is %s", field.MapKey().Kind(), wantsOne(field.MapValue()))
	default:
		return wantsOne(field)
	}
}

// wantsOne describes in Go's terms the values of the field, or the elements of its list.
func wantsOne(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BytesKind:
		return "a []byte"
	case protoreflect.BoolKind:
		return "a bool"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "a number (" + field.Kind().String() + ")"
	case protoreflect.EnumKind:
		return fmt.Sprintf("the name of a value of %s, such as %q", protoargs.FullName(field.Enum()), anyName(field.Enum()))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return wantsMessage(field.Message())
	default:
		return "an integer (" + field.Kind().String() + ")"
	}
}

func wantsMessage(desc protoreflect.MessageDescriptor) string {
	switch special := protoargs.SpecialOf(desc); special {
	case protoargs.Ordinary:
		return fmt.Sprintf("the fields of %s as framework.Args or a struct", protoargs.FullName(desc))
	case protoargs.Wrapper:
		return wantsOne(desc.Fields().Get(0))
	default:
		return goForms[special].wants
	}
}

// goForms are the Go values of well-known messages: what a field takes, and an example.
var goForms = map[protoargs.Special]struct{ wants, example string }{
	protoargs.Timestamp: {"a time.Time", "time.Now()"},
	protoargs.Duration:  {"a time.Duration", "time.Minute"},
	protoargs.Struct:    {"a map[string]any of what JSON can say", "map[string]any{…}"},
	protoargs.Value:     {"what JSON can say: nil, a bool, number, string, []any or map[string]any", `"…"`},
	protoargs.ListValue: {"a []any of what JSON can say", "[]any{…}"},
	protoargs.FieldMask: {"a []string of paths", `[]string{"…"}`},
	protoargs.Any:       {`a proto.Message, or a map with its fields and "@type"`, "message"},
}

// noSuchName reports a name that an enum does not have.
func (e *encoder) noSuchName(enum protoreflect.EnumDescriptor, name string) bool {
	if e.hidden > 0 || e.full() {
		return e.fail(NoSuchValue, "is no name of a value of %s", protoargs.FullName(enum))
	}
	values := enum.Values()
	names := make([]string, 0, values.Len())
	for i := range values.Len() {
		names = append(names, string(values.Get(i).Name()))
	}
	hint := "it has " + quote.Clip(protoargs.Listed(names, "and"), protoargs.MaxPath)
	if near := nearest.Names(name, names, 1); len(near) > 0 {
		hint = "did you mean " + near[0] + "?"
	}
	return e.fail(NoSuchValue, "is %s, which is no value of %s: %s", protoargs.ValueText(name), protoargs.FullName(enum), hint)
}

// anyName returns the name of a value of an enum as an example, if possible not that of zero.
func anyName(enum protoreflect.EnumDescriptor) string {
	values := enum.Values()
	for i := range values.Len() {
		if values.Get(i).Number() != 0 {
			return quote.Clip(string(values.Get(i).Name()), protoargs.MaxName)
		}
	}
	if values.Len() == 0 {
		return "…"
	}
	return quote.Clip(string(values.Get(0).Name()), protoargs.MaxName)
}
