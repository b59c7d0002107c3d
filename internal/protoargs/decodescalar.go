package protoargs

import (
	"encoding/json"
	"math"
	"reflect"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/quote"
)

var (
	durationType   = reflect.TypeFor[time.Duration]()
	jsonNumberName = reflect.TypeFor[json.Number]()
	enumType       = reflect.TypeFor[protoreflect.Enum]()
)

// scalar writes a bool, number or string to dest, exactly.
func (d *decoder) scalar(v any, dest reflect.Value) error {
	read := basic(v)
	switch {
	case dest.Type() == durationType || dest.Type() == jsonNumberName || dest.Type().Implements(enumType):
		// They have a suitable kind, but another meaning.
	case dest.Kind() == reflect.String:
		if text, ok := read.(string); ok {
			dest.SetString(text)
			return nil
		}
	case dest.Kind() == reflect.Bool:
		if flag, ok := read.(bool); ok {
			dest.SetBool(flag)
			return nil
		}
	case dest.CanInt() || dest.CanUint() && dest.Kind() != reflect.Uintptr:
		return d.integer(v, dest)
	case dest.CanFloat():
		return d.float(v, dest)
	}
	return d.mismatch(goType(v), dest)
}

func (d *decoder) integer(v any, dest reflect.Value) error {
	read := basic(v)
	switch read.(type) {
	case int64, uint64:
	default:
		return d.mismatch(goType(v), dest)
	}
	n, _ := integerOf(read)
	width := dest.Type().Bits()
	if dest.CanInt() {
		if i, ok := n.signed(width); ok {
			dest.SetInt(i)
			return nil
		}
	} else if u, ok := n.unsigned(width); ok {
		dest.SetUint(u)
		return nil
	}
	return d.fail("is a number%s that %s does not hold", d.echo(" ", read), goTypeName(dest.Type()))
}

// float writes an integer or a float that dest can hold without rounding.
func (d *decoder) float(v any, dest reflect.Value) error {
	read, width := basic(v), dest.Type().Bits()
	f, problem := floatOf(read, width)
	if wide, ok := read.(float64); ok && !math.IsNaN(wide) && f != wide {
		problem = Inexact
	}
	switch problem {
	case "":
		dest.SetFloat(f)
		return nil
	case WrongType:
		return d.mismatch(goType(v), dest)
	default:
		return d.fail("is a number%s that %s does not hold exactly", d.echo(" ", read), goTypeName(dest.Type()))
	}
}

// bytes writes a copy of data to a slice, or to an array of the same length.
func (d *decoder) bytes(data []byte, dest reflect.Value) error {
	switch {
	case dest.Kind() == reflect.Slice && dest.Type().Elem().Kind() == reflect.Uint8:
		dest.SetBytes(append([]byte{}, data...))
		return nil
	case dest.Kind() == reflect.Array && dest.Type().Elem().Kind() == reflect.Uint8:
		if dest.Len() != len(data) {
			return d.fail("has %d bytes and does not go into %s", len(data), goTypeName(dest.Type()))
		}
		for i, b := range data {
			dest.Index(i).SetUint(uint64(b))
		}
		return nil
	default:
		return d.mismatch("[]byte", dest)
	}
}

// enum writes a value's name to a string, or its number to an integer or to the enum's Go
// type.
func (d *decoder) enum(desc protoreflect.EnumDescriptor, number protoreflect.EnumNumber, dest reflect.Value) error {
	if zero, ok := reflect.TypeAssert[protoreflect.Enum](reflect.Zero(dest.Type())); ok {
		own, _, ok := enumOf(zero)
		if !ok || own.FullName() != desc.FullName() || !dest.CanInt() {
			return d.mismatch("an enum "+quote.Clip(string(desc.FullName()), maxTypeEcho), dest)
		}
		if !sameValue(desc, own, number) {
			return d.fail("has a number that %s has for another value: build both from one .proto", goTypeName(dest.Type()))
		}
		dest.SetInt(int64(number))
		return nil
	}
	if dest.Kind() != reflect.String {
		return d.scalar(int32(number), dest)
	}
	name, ok := enumValue(desc, number).(string)
	if !ok {
		return d.fail("is a number%s that %s has no name for: decode it into an int32", d.echo(" ", int64(number)), quote.Clip(string(desc.FullName()), maxTypeEcho))
	}
	return d.scalar(name, dest)
}
