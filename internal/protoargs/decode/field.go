package decode

import (
	"reflect"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/protoargs"
)

// field writes a field of a message to dest.
func (d *decoder) field(field protoreflect.FieldDescriptor, m protoreflect.Message, dest reflect.Value) error {
	if field.HasPresence() && !m.Has(field) {
		dest.SetZero()
		return nil
	}
	d.path = append(d.path, fieldpath.Step{Field: string(field.Name())})
	hide := fieldpath.Redacted(field)
	if hide {
		d.hidden++
	}
	err := d.fieldValue(field, m.Get(field), dest)
	if hide {
		d.hidden--
	}
	d.path = d.path[:len(d.path)-1]
	return err
}

// fieldValue writes a field's value, list or map to dest.
func (d *decoder) fieldValue(field protoreflect.FieldDescriptor, v protoreflect.Value, dest reflect.Value) error {
	if !field.IsList() && !field.IsMap() {
		return d.value(field, v, dest)
	}
	dest, err := d.deref(dest)
	switch {
	case err != nil:
		return err
	case dest.Kind() == reflect.Interface:
		return d.intoInterface(d.reader.field(field, v), dest)
	case field.IsMap():
		return d.mapField(field, v.Map(), dest)
	default:
		return d.list(field, v.List(), dest)
	}
}

// deref creates new values for pointers, and returns the last one.
func (d *decoder) deref(dest reflect.Value) (reflect.Value, error) {
	for range protoargs.MaxPointers {
		if dest.Kind() != reflect.Pointer {
			return dest, nil
		}
		dest.Set(reflect.New(dest.Type().Elem()))
		dest = dest.Elem()
	}
	return dest, d.fail("goes into more than %d pointers: give the type itself", protoargs.MaxPointers)
}

// intoInterface writes a value to an interface that the value implements.
func (d *decoder) intoInterface(v any, dest reflect.Value) error {
	if v == nil {
		dest.SetZero()
		return nil
	}
	at := reflect.ValueOf(v)
	if !at.Type().AssignableTo(dest.Type()) {
		return d.mismatch(protoargs.TypeOf(v), dest)
	}
	dest.Set(at)
	return nil
}

// mismatch returns the error for a destination whose type does not fit the field.
func (d *decoder) mismatch(what string, dest reflect.Value) error {
	return d.fail("is %s and does not go into %s", what, protoargs.TypeName(dest.Type()))
}

func (d *decoder) list(field protoreflect.FieldDescriptor, values protoreflect.List, dest reflect.Value) error {
	made := dest
	switch dest.Kind() {
	case reflect.Slice:
		made = reflect.MakeSlice(dest.Type(), values.Len(), values.Len())
	case reflect.Array:
		if dest.Len() != values.Len() {
			return d.fail("has %d elements and does not go into %s: give a slice", values.Len(), protoargs.TypeName(dest.Type()))
		}
	default:
		return d.mismatch("repeated", dest)
	}
	for i := range values.Len() {
		d.path = append(d.path, fieldpath.Step{Index: i})
		if err := d.value(field, values.Get(i), made.Index(i)); err != nil {
			return err
		}
		d.path = d.path[:len(d.path)-1]
	}
	if dest.Kind() == reflect.Slice {
		dest.Set(made)
	}
	return nil
}

func (d *decoder) mapField(field protoreflect.FieldDescriptor, values protoreflect.Map, dest reflect.Value) error {
	if dest.Kind() != reflect.Map {
		return d.mismatch("a map", dest)
	}
	made := reflect.MakeMapWithSize(dest.Type(), values.Len())
	var failed error
	values.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		key, value := reflect.New(dest.Type().Key()).Elem(), reflect.New(dest.Type().Elem()).Elem()
		d.path = append(d.path, fieldpath.Step{Key: k, Hidden: d.hidden > 0})
		if key.Kind() == reflect.Pointer {
			failed = d.fail("is a key and does not go into %s", protoargs.TypeName(key.Type()))
		} else if failed = d.value(field.MapKey(), k.Value(), key); failed == nil {
			failed = d.value(field.MapValue(), v, value)
		}
		if failed != nil {
			return false
		}
		made.SetMapIndex(key, value)
		d.path = d.path[:len(d.path)-1]
		return true
	})
	if failed != nil {
		return failed
	}
	dest.Set(made)
	return nil
}

// value writes one value to dest.
func (d *decoder) value(field protoreflect.FieldDescriptor, v protoreflect.Value, dest reflect.Value) error {
	if field.Message() != nil {
		return d.message(v.Message(), dest)
	}
	dest, err := d.deref(dest)
	if err != nil {
		return err
	}
	if dest.Kind() == reflect.Interface {
		return d.intoInterface(d.reader.value(field, v), dest)
	}
	switch field.Kind() {
	case protoreflect.EnumKind:
		return d.enum(field.Enum(), v.Enum(), dest)
	case protoreflect.BytesKind:
		return d.bytes(v.Bytes(), dest)
	default:
		return d.scalar(v.Interface(), dest)
	}
}

// message writes a message that is the value of a field to dest.
func (d *decoder) message(m protoreflect.Message, dest reflect.Value) error {
	if dest.Kind() == reflect.Pointer && !dest.Type().Implements(protoargs.MessageType) && isNull(m) {
		dest.SetZero()
		return nil
	}
	for range protoargs.MaxPointers {
		if made := newMessage(dest.Type(), m.Descriptor()); made != nil {
			if err := d.intoGiven(m, made); err != nil {
				return err
			}
			dest.Set(reflect.ValueOf(made))
			return nil
		}
		if dest.Kind() != reflect.Pointer {
			break
		}
		dest.Set(reflect.New(dest.Type().Elem()))
		dest = dest.Elem()
	}
	if into, ok := reflect.TypeAssert[proto.Message](dest.Addr()); ok {
		return d.intoGiven(m, into)
	}
	switch dest.Kind() {
	case reflect.Pointer:
		_, err := d.deref(dest)
		return err
	case reflect.Interface:
		return d.intoInterface(d.reader.message(m), dest)
	default:
		return d.unwrapped(m, dest)
	}
}

// isNull reports whether a message is JSON's null.
func isNull(m protoreflect.Message) bool {
	value, ok := protoargs.Generated(m).(*structpb.Value)
	return ok && value.AsInterface() == nil
}

// unwrapped writes the value in a message to dest.
func (d *decoder) unwrapped(m protoreflect.Message, dest reflect.Value) error {
	special := protoargs.SpecialOf(m.Descriptor())
	switch {
	case special == protoargs.Wrapper || special == protoargs.FieldMask && dest.Kind() == reflect.Slice:
		field := m.Descriptor().Fields().Get(0)
		return d.fieldValue(field, m.Get(field), dest)
	case special == protoargs.Any && dest.Kind() != reflect.Map:
		return d.anyField(m, dest)
	case special != protoargs.Ordinary:
		return d.fit(d.reader.message(m), dest)
	case takesAll(dest.Type()):
		return d.fields(m, dest)
	default:
		return d.mismatch("a message "+protoargs.FullName(m.Descriptor()), dest)
	}
}

// intoGiven fills a message in the destination.
func (d *decoder) intoGiven(m protoreflect.Message, dest proto.Message) error {
	into := protoargs.MessageOf(dest)
	if into == nil {
		return d.fail("does not go into a %s that is nil: give a message", protoargs.TypeOf(dest))
	}
	name := into.Descriptor().FullName()
	if m.Descriptor().FullName() == name {
		return d.copyMessage(m, into)
	}
	if inside := d.inAny(m); inside != nil && inside.Descriptor().FullName() == name {
		return d.copyMessage(inside, into)
	}
	return d.fail("is a message %s and does not go into a %s", protoargs.FullName(m.Descriptor()), protoargs.FullName(into.Descriptor()))
}

// inAny returns the message in an Any. It returns nil if m is not an Any, or its type is not
// known.
func (d *decoder) inAny(m protoreflect.Message) protoreflect.Message {
	packed, ok := protoargs.Generated(m).(*anypb.Any)
	if !ok {
		return nil
	}
	return d.unpack(packed)
}

// anyField writes the content of an Any to a destination that is not a map.
func (d *decoder) anyField(m protoreflect.Message, dest reflect.Value) error {
	inside := d.inAny(m)
	if inside == nil {
		return d.fail("is an Any of a type that is not known here and does not go into %s: decode it into any or an *anypb.Any", protoargs.TypeName(dest.Type()))
	}
	d.anys++
	defer func() { d.anys-- }()
	return d.message(inside, dest)
}

// fit writes a plain value to a destination of the same type, or of a named type of the
// same kind.
func (d *decoder) fit(v any, dest reflect.Value) error {
	if v == nil {
		if dest.Kind() != reflect.Map && dest.Kind() != reflect.Slice {
			return d.fail("is null and does not go into %s: decode it into any or a pointer", protoargs.TypeName(dest.Type()))
		}
		dest.SetZero()
		return nil
	}
	at := reflect.ValueOf(v)
	switch {
	case at.Type().AssignableTo(dest.Type()):
		dest.Set(at)
	case at.Kind() == dest.Kind() && at.Type().ConvertibleTo(dest.Type()) && at.Type() != protoargs.DurationType:
		dest.Set(at.Convert(dest.Type()))
	default:
		return d.mismatch(protoargs.TypeOf(v), dest)
	}
	return nil
}
