package protoargs

import (
	"encoding/json"
	"reflect"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/quote"
)

// Types with a meaning that their kind does not show.
var (
	TimeType     = reflect.TypeFor[time.Time]()
	DurationType = reflect.TypeFor[time.Duration]()
	MessageType  = reflect.TypeFor[proto.Message]()
)

// Basic converts a value of a named type, such as type UserID int64, to int64, uint64,
// float32, float64, string or bool. It returns any other value unchanged.
func Basic(v any) any {
	switch v := v.(type) {
	case string, bool, float64, float32, int64, uint64, json.Number, time.Duration:
		return v
	}
	at := reflect.ValueOf(v)
	switch kind := at.Kind(); {
	case at.CanInt():
		return at.Int()
	case at.CanUint() && kind != reflect.Uintptr:
		return at.Uint()
	case kind == reflect.Float32:
		return float32(at.Float())
	case kind == reflect.Float64:
		return at.Float()
	case kind == reflect.String:
		return at.String()
	case kind == reflect.Bool:
		return at.Bool()
	default:
		return v
	}
}

// ValueText returns the text of a value of [Basic].
func ValueText(v any) string {
	switch v := v.(type) {
	case string:
		return quote.Quoted(v, maxValue)
	case json.Number:
		return quote.Quoted(string(v), maxValue)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	default:
		return "of type " + TypeOf(v)
	}
}

// SameValue reports whether a number has the same meaning in two enums. That is also true if
// one of them has no name for it, unless it uses the other's name for another number.
func SameValue(here, there protoreflect.EnumDescriptor, number protoreflect.EnumNumber) bool {
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

// EnumOf reads an enum. A struct that embeds a nil enum implements protoreflect.Enum, but
// its methods panic.
func EnumOf(given protoreflect.Enum) (desc protoreflect.EnumDescriptor, number protoreflect.EnumNumber, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	desc = given.Descriptor()
	return desc, given.Number(), desc != nil
}

// MessageOf returns a message's reflection, nil if it has none or is a nil pointer. A struct
// that embeds a nil message implements proto.Message, but its ProtoReflect panics.
func MessageOf(message proto.Message) (m protoreflect.Message) {
	defer func() {
		if recover() != nil {
			m = nil
		}
	}()
	m = message.ProtoReflect()
	if m == nil || m.Descriptor() == nil || !m.IsValid() {
		return nil
	}
	return m
}
