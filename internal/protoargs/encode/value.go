package encode

import (
	"errors"
	"reflect"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/protoargs"
)

// value converts one value: that of a field, an element of a list, or a key or value of a
// map. slot is a new value of the same type. If it is a message, value fills it.
func (e *encoder) value(field protoreflect.FieldDescriptor, v any, slot protoreflect.Value) (protoreflect.Value, bool) {
	if field.Message() != nil {
		return slot, e.messageValue(slot.Message(), v)
	}
	v, ok := e.deref(v)
	if !ok {
		return slot, false
	}
	basic := protoargs.Basic(v)
	switch field.Kind() {
	case protoreflect.EnumKind:
		return e.enum(field, v)
	case protoreflect.BytesKind:
		return e.bytes(field, v)
	case protoreflect.StringKind:
		if text, ok := basic.(string); ok {
			return protoreflect.ValueOfString(text), e.validText(text)
		}
	case protoreflect.BoolKind:
		if flag, ok := basic.(bool); ok {
			return protoreflect.ValueOfBool(flag), true
		}
	default:
		return e.number(field, v, reflect.TypeOf(slot.Interface()))
	}
	return slot, e.wrongType(field, v)
}

// deref follows pointers and returns the last value. It does not follow a pointer to a
// message.
func (e *encoder) deref(v any) (any, bool) {
	for range protoargs.MaxPointers {
		at := reflect.ValueOf(v)
		switch {
		case v == nil || at.Kind() == reflect.Pointer && at.IsNil():
			return nil, e.isNil()
		case at.Kind() != reflect.Pointer || at.Type().Implements(protoargs.MessageType):
			return v, true
		}
		v = at.Elem().Interface()
	}
	return nil, e.fail(TooDeep, "lies behind more than %d pointers: give the value itself", protoargs.MaxPointers)
}

func (e *encoder) isNil() bool {
	return e.fail(Nil, "is nil: leave it out, or give a value")
}

func (e *encoder) validText(text string) bool {
	if !e.charge(len(text)) {
		return false
	}
	if !utf8.ValidString(text) {
		return e.fail(BadText, "is not valid UTF-8%s: a string is text, bytes are for all else", e.echo(": ", text))
	}
	return true
}

func (e *encoder) bytes(field protoreflect.FieldDescriptor, v any) (protoreflect.Value, bool) {
	at := reflect.ValueOf(v)
	if at.Kind() != reflect.Slice && at.Kind() != reflect.Array || at.Type().Elem().Kind() != reflect.Uint8 {
		return protoreflect.Value{}, e.wrongType(field, v)
	}
	if !e.charge(at.Len()) {
		return protoreflect.Value{}, false
	}
	readable := reflect.New(at.Type()).Elem()
	readable.Set(at)
	// Copy the bytes, because the caller may change them later.
	return protoreflect.ValueOfBytes(append([]byte{}, readable.Bytes()...)), true
}

// number converts a value to the Go type of an integer, a float or a double.
func (e *encoder) number(field protoreflect.FieldDescriptor, v any, goType reflect.Type) (protoreflect.Value, bool) {
	basic := protoargs.Basic(v)
	set, err := protoargs.Number(basic, goType)
	switch {
	case err == nil:
		return protoreflect.ValueOf(set.Interface()), true
	case errors.Is(err, protoargs.ErrRange):
		return protoreflect.Value{}, e.fail(OutOfRange, "is %s, and the number%s does not fit", field.Kind(), e.echo(" ", basic))
	case errors.Is(err, protoargs.ErrInexact):
		return protoreflect.Value{}, e.fail(Inexact, "is %s, which does not hold the number%s exactly: give one that it does, integers as a Go integer or json.Number",
			field.Kind(), e.echo(" ", basic))
	default:
		return protoreflect.Value{}, e.wrongType(field, v)
	}
}

// enum converts a name, a declared number, or a value of the generated Go type.
func (e *encoder) enum(field protoreflect.FieldDescriptor, v any) (protoreflect.Value, bool) {
	enum := field.Enum()
	if given, ok := v.(protoreflect.Enum); ok {
		return e.sameEnum(field, given)
	}
	basic := protoargs.Basic(v)
	if name, ok := basic.(string); ok {
		value := enum.Values().ByName(protoreflect.Name(name))
		if value == nil {
			return protoreflect.Value{}, e.noSuchName(enum, name)
		}
		return protoreflect.ValueOfEnum(value.Number()), true
	}
	number, err := protoargs.Number(basic, reflect.TypeFor[protoreflect.EnumNumber]())
	switch {
	case errors.Is(err, protoargs.ErrType):
		return protoreflect.Value{}, e.wrongType(field, v)
	case err != nil || enum.Values().ByNumber(protoreflect.EnumNumber(number.Int())) == nil: //nolint:gosec // of this type
		return protoreflect.Value{}, e.fail(NoSuchValue, "has a number%s that %s does not declare: write the name of a value, such as %q",
			e.echo(" ", basic), protoargs.FullName(enum), anyName(enum))
	default:
		return protoreflect.ValueOf(number.Interface()), true
	}
}

// sameEnum converts a value of an enum's Go type. It accepts any number that the enum may
// have on the wire.
func (e *encoder) sameEnum(field protoreflect.FieldDescriptor, given protoreflect.Enum) (protoreflect.Value, bool) {
	enum := field.Enum()
	desc, number, ok := protoargs.EnumOf(given)
	if !ok || desc.FullName() != enum.FullName() {
		return protoreflect.Value{}, e.wrongType(field, given)
	}
	if enum.IsClosed() && enum.Values().ByNumber(number) == nil {
		return protoreflect.Value{}, e.fail(NoSuchValue, "has a number%s that %s does not declare, and the enum is closed",
			e.echo(" ", int64(number)), protoargs.FullName(enum))
	}
	if !protoargs.SameValue(desc, enum, number) {
		return protoreflect.Value{}, e.fail(NoSuchValue, "has a number%s that %s has for another value: build both from one .proto",
			e.echo(" ", int64(number)), protoargs.FullName(enum))
	}
	return protoreflect.ValueOfEnum(number), true
}

// echo returns before and the value, short and printable. It returns "" if no error may
// show the value.
func (e *encoder) echo(before string, v any) string {
	if e.hidden > 0 {
		return ""
	}
	return before + protoargs.ValueText(v)
}
