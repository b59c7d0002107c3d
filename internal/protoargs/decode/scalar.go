package decode

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/protoargs"
)

var (
	jsonNumberType = reflect.TypeFor[json.Number]()
	enumType       = reflect.TypeFor[protoreflect.Enum]()
)

// scalar writes a bool, number or string to dest, exactly.
func (d *decoder) scalar(v any, dest reflect.Value) error {
	switch goType := dest.Type(); {
	case goType == protoargs.DurationType || goType == jsonNumberType || goType.Implements(enumType):
		// They have a suitable kind, but another meaning.
		return d.mismatch(protoargs.TypeOf(v), dest)
	case dest.CanInt() || dest.CanFloat() || dest.CanUint() && dest.Kind() != reflect.Uintptr:
		return d.number(v, dest)
	default:
		return d.fit(v, dest)
	}
}

// number writes an integer to dest, or a float to a float, without rounding.
func (d *decoder) number(v any, dest reflect.Value) error {
	basic := protoargs.Basic(v)
	from, toFloat := reflect.ValueOf(basic), dest.CanFloat()
	set, err := protoargs.Number(basic, dest.Type())
	switch {
	case errors.Is(err, protoargs.ErrType) || from.CanFloat() && !toFloat:
		return d.mismatch(protoargs.TypeOf(v), dest)
	case toFloat && (err != nil || from.CanFloat() && from.Float() != set.Float() && !math.IsNaN(from.Float())):
		return d.fail("is a number%s that %s does not hold exactly", d.echo(" ", basic), protoargs.TypeName(dest.Type()))
	case err != nil:
		return d.fail("is a number%s that %s does not hold", d.echo(" ", basic), protoargs.TypeName(dest.Type()))
	}
	dest.Set(set)
	return nil
}

// bytes writes a copy of data to a slice, or to an array of the same length.
func (d *decoder) bytes(data []byte, dest reflect.Value) error {
	switch kind := dest.Kind(); {
	case kind != reflect.Slice && kind != reflect.Array || dest.Type().Elem().Kind() != reflect.Uint8:
		return d.mismatch("[]byte", dest)
	case kind == reflect.Slice:
		dest.SetBytes(append([]byte{}, data...))
	case dest.Len() != len(data):
		return d.fail("has %d bytes and does not go into %s", len(data), protoargs.TypeName(dest.Type()))
	default:
		copy(dest.Bytes(), data)
	}
	return nil
}

// enum writes a value's name to a string, or its number to an integer or to the enum's Go
// type.
func (d *decoder) enum(desc protoreflect.EnumDescriptor, number protoreflect.EnumNumber, dest reflect.Value) error {
	if zero, ok := reflect.TypeAssert[protoreflect.Enum](reflect.Zero(dest.Type())); ok {
		own, _, ok := protoargs.EnumOf(zero)
		if !ok || own.FullName() != desc.FullName() || !dest.CanInt() {
			return d.mismatch("an enum "+protoargs.FullName(desc), dest)
		}
		if !protoargs.SameValue(desc, own, number) {
			return d.fail("has a number that %s has for another value: build both from one .proto", protoargs.TypeName(dest.Type()))
		}
		dest.SetInt(int64(number))
		return nil
	}
	if dest.Kind() != reflect.String {
		return d.scalar(int32(number), dest)
	}
	name, ok := enumValue(desc, number).(string)
	if !ok {
		return d.fail("is a number%s that %s has no name for: decode it into an int32", d.echo(" ", int64(number)), protoargs.FullName(desc))
	}
	return d.scalar(name, dest)
}
