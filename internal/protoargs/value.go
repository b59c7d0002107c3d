package protoargs

import (
	"encoding/json"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/quote"
)

// maxPointers bounds the pointers that are followed to one value, because a pointer may
// point to itself.
const maxPointers = 16

// value converts one value to type t. If t is a message type, slot is an empty message of
// that type, which value fills.
func (e *encoder) value(t *valueType, v any, slot protoreflect.Value) (protoreflect.Value, bool) {
	if text, ok := v.(string); ok && t.kind == protoreflect.StringKind {
		return e.text(text)
	}
	v, ok := e.deref(t, v)
	if !ok {
		return protoreflect.Value{}, false
	}
	switch t.kind {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return slot, e.messageField(t, v, slot.Message())
	case protoreflect.EnumKind:
		return e.enum(t, v)
	case protoreflect.BytesKind:
		return e.bytes(t, v)
	case protoreflect.StringKind:
		if text, ok := basic(v).(string); ok {
			return e.text(text)
		}
	case protoreflect.BoolKind:
		if flag, ok := basic(v).(bool); ok {
			return protoreflect.ValueOfBool(flag), true
		}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return e.float(t, v)
	default:
		return e.integer(t, v)
	}
	return protoreflect.Value{}, e.wrongType(t, v)
}

// deref follows pointers and returns the last value. It does not follow a pointer to a
// message. Nil is valid only for a Value.
func (e *encoder) deref(t *valueType, v any) (any, bool) {
	for range maxPointers {
		if v == nil {
			if t.message != nil && t.message.special == jsonValue {
				return nil, true
			}
			return nil, e.isNil()
		}
		at := reflect.ValueOf(v)
		if at.Kind() != reflect.Pointer {
			return v, true
		}
		if at.IsNil() {
			return nil, e.isNil()
		}
		if _, ok := v.(proto.Message); ok {
			return v, true
		}
		if v = at.Elem().Interface(); v == nil {
			return nil, e.isNil()
		}
	}
	return nil, e.fail(TooDeep, "lies behind more than %d pointers: give the value itself", maxPointers)
}

func (e *encoder) isNil() bool {
	return e.fail(Nil, "is nil: leave it out, or give a value")
}

// basic converts a value of a named type, such as type UserID int64, to int64, uint64,
// float32, float64, string or bool. It returns any other value unchanged.
func basic(v any) any {
	switch v := v.(type) {
	case string, bool, float64, float32, int64, uint64, json.Number, time.Duration:
		return v
	case int:
		return int64(v)
	case int32:
		return int64(v)
	}
	at := reflect.ValueOf(v)
	switch {
	case at.CanInt():
		return at.Int()
	case at.CanUint() && at.Kind() != reflect.Uintptr:
		return at.Uint()
	}
	switch at.Kind() {
	case reflect.Float32:
		return float32(at.Float())
	case reflect.Float64:
		return at.Float()
	case reflect.String:
		return at.String()
	case reflect.Bool:
		return at.Bool()
	default:
		return v
	}
}

func (e *encoder) text(text string) (protoreflect.Value, bool) {
	if !e.validText(text) {
		return protoreflect.Value{}, false
	}
	return protoreflect.ValueOfString(text), true
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

func (e *encoder) bytes(t *valueType, v any) (protoreflect.Value, bool) {
	data, ok := v.([]byte)
	if !ok {
		at := reflect.ValueOf(v)
		switch {
		case at.Kind() == reflect.Slice && at.Type().Elem().Kind() == reflect.Uint8:
			data = at.Bytes()
		case at.Kind() == reflect.Array && at.Type().Elem().Kind() == reflect.Uint8:
			data = make([]byte, at.Len())
			for i := range data {
				data[i] = byte(at.Index(i).Uint()) //nolint:gosec // of kind uint8
			}
		default:
			return protoreflect.Value{}, e.wrongType(t, v)
		}
	}
	if !e.charge(len(data)) {
		return protoreflect.Value{}, false
	}
	// Copy the bytes, because the caller may change them later.
	return protoreflect.ValueOfBytes(append([]byte{}, data...)), true
}

// enum converts a name, a declared number, or a value of the generated Go type.
func (e *encoder) enum(t *valueType, v any) (protoreflect.Value, bool) {
	if given, ok := v.(protoreflect.Enum); ok {
		return e.sameEnum(t, v, given)
	}
	read := basic(v)
	if name, ok := read.(string); ok {
		value := t.enum.Values().ByName(protoreflect.Name(name))
		if value == nil {
			return protoreflect.Value{}, e.noSuchName(t, name)
		}
		return protoreflect.ValueOfEnum(value.Number()), true
	}
	n, problem := integerOf(read)
	if problem == WrongType {
		return protoreflect.Value{}, e.wrongType(t, v)
	}
	if number, ok := n.signed(32); problem == "" && ok {
		number := protoreflect.EnumNumber(number) //nolint:gosec // it fits
		if t.enum.Values().ByNumber(number) != nil {
			return protoreflect.ValueOfEnum(number), true
		}
	}
	return protoreflect.Value{}, e.fail(NoSuchValue, "has a number%s that %s does not declare: write the name of a value, such as %q",
		e.echo(" ", read), t.text(), anyName(t.enum))
}

// sameEnum converts a value of an enum's Go type. It accepts any number that the enum may
// have on the wire.
func (e *encoder) sameEnum(t *valueType, v any, given protoreflect.Enum) (protoreflect.Value, bool) {
	desc, number, ok := enumOf(given)
	if !ok || desc.FullName() != t.enum.FullName() {
		return protoreflect.Value{}, e.wrongType(t, v)
	}
	if t.enum.IsClosed() && t.enum.Values().ByNumber(number) == nil {
		return protoreflect.Value{}, e.fail(NoSuchValue, "has a number%s that %s does not declare, and the enum is closed",
			e.echo(" ", int64(number)), t.text())
	}
	if !sameValue(desc, t.enum, number) {
		return protoreflect.Value{}, e.fail(NoSuchValue, "has a number%s that %s has for another value: build both from one .proto",
			e.echo(" ", int64(number)), t.text())
	}
	return protoreflect.ValueOfEnum(number), true
}

// sameValue reports whether a number has the same meaning in two enums. That is also true if
// one of them has no name for it, unless it uses the other's name for another number.
func sameValue(here, there protoreflect.EnumDescriptor, number protoreflect.EnumNumber) bool {
	one, other := here.Values().ByNumber(number), there.Values().ByNumber(number)
	if here == there || one == nil {
		return true
	}
	// A number may have several names, so the first names may differ.
	same := there.Values().ByName(one.Name())
	if same == nil {
		if other == nil {
			return true
		}
		same = here.Values().ByName(other.Name())
	}
	return same != nil && same.Number() == number
}

// enumOf reads an enum. A struct that embeds a nil enum implements protoreflect.Enum, but
// its methods panic.
func enumOf(given protoreflect.Enum) (desc protoreflect.EnumDescriptor, number protoreflect.EnumNumber, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	desc = given.Descriptor()
	return desc, given.Number(), desc != nil
}

// echo returns before and the value, short and printable. It returns "" if no error may
// show the value.
func (e *encoder) echo(before string, v any) string {
	if e.hidden > 0 {
		return ""
	}
	return before + valueText(v)
}

// valueText returns the text of a basic value.
func valueText(v any) string {
	switch v := v.(type) {
	case string:
		return quote.Quoted(v, maxValueEcho)
	case json.Number:
		return quote.Quoted(string(v), maxValueEcho)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	default:
		return "of type " + goType(v)
	}
}
