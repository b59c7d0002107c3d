package protoargs

import (
	"reflect"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/quote"
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
	for range maxPointers {
		if dest.Kind() != reflect.Pointer {
			return dest, nil
		}
		dest.Set(reflect.New(dest.Type().Elem()))
		dest = dest.Elem()
	}
	return dest, d.fail("goes into more than %d pointers: give the type itself", maxPointers)
}

// intoInterface writes a value to an interface that the value implements.
func (d *decoder) intoInterface(v any, dest reflect.Value) error {
	if v == nil {
		dest.SetZero()
		return nil
	}
	at := reflect.ValueOf(v)
	if !at.Type().AssignableTo(dest.Type()) {
		return d.mismatch(goType(v), dest)
	}
	dest.Set(at)
	return nil
}

// mismatch returns the error for a destination whose type does not fit the field.
func (d *decoder) mismatch(what string, dest reflect.Value) error {
	return d.fail("is %s and does not go into %s", what, goTypeName(dest.Type()))
}

func (d *decoder) list(field protoreflect.FieldDescriptor, values protoreflect.List, dest reflect.Value) error {
	made := dest
	switch dest.Kind() {
	case reflect.Slice:
		made = reflect.MakeSlice(dest.Type(), values.Len(), values.Len())
	case reflect.Array:
		if dest.Len() != values.Len() {
			return d.fail("has %d elements and does not go into %s: give a slice", values.Len(), goTypeName(dest.Type()))
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
			failed = d.fail("is a key and does not go into %s", goTypeName(key.Type()))
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
	if dest.Kind() == reflect.Pointer && !dest.Type().Implements(messageType) && isNull(m) {
		dest.SetZero()
		return nil
	}
	for range maxPointers {
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
	if specialOf(m.Descriptor()) != jsonValue {
		return false
	}
	value, ok := jsonOf(m)
	return ok && value == nil
}

// unwrapped writes the value in a message to dest.
func (d *decoder) unwrapped(m protoreflect.Message, dest reflect.Value) error {
	switch kind := specialOf(m.Descriptor()); {
	case kind == wrapper:
		field := m.Descriptor().Fields().Get(0)
		return d.value(field, m.Get(field), dest)
	case kind == anyMessage:
		return d.anyField(m, dest)
	case kind == fieldMask && dest.Kind() == reflect.Slice:
		field := m.Descriptor().Fields().Get(0)
		return d.list(field, m.Get(field).List(), dest)
	case kind != ordinary:
		return d.fit(d.reader.message(m), dest)
	case takesAll(dest.Type()):
		return d.fields(m, dest)
	default:
		return d.mismatch("a message "+quote.Clip(string(m.Descriptor().FullName()), maxTypeEcho), dest)
	}
}

// intoGiven fills a message in the destination.
func (d *decoder) intoGiven(m protoreflect.Message, dest proto.Message) error {
	into := reflectOf(dest)
	if into == nil || !into.IsValid() {
		return d.fail("does not go into a %s that is nil: give a message", goType(dest))
	}
	if m.Descriptor().FullName() != into.Descriptor().FullName() {
		if specialOf(m.Descriptor()) == anyMessage {
			if inside := d.unpack(anyParts(m)); inside != nil && inside.Descriptor().FullName() == into.Descriptor().FullName() {
				return d.copyMessage(inside, into)
			}
		}
		return d.fail("is a message %s and does not go into a %s",
			quote.Clip(string(m.Descriptor().FullName()), maxTypeEcho), quote.Clip(string(into.Descriptor().FullName()), maxTypeEcho))
	}
	return d.copyMessage(m, into)
}

// anyField writes the content of an Any to a map or a struct.
func (d *decoder) anyField(m protoreflect.Message, dest reflect.Value) error {
	if dest.Kind() == reflect.Map {
		return d.fit(d.reader.anyField(m), dest)
	}
	inside := d.unpack(anyParts(m))
	if inside == nil || d.anys >= MaxDepth {
		return d.fail("is an Any of a type that is not known here and does not go into %s: decode it into any or an *anypb.Any", goTypeName(dest.Type()))
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
			return d.fail("is null and does not go into %s: decode it into any or a pointer", goTypeName(dest.Type()))
		}
		dest.SetZero()
		return nil
	}
	at := reflect.ValueOf(v)
	switch {
	case at.Type().AssignableTo(dest.Type()):
		dest.Set(at)
	case at.Kind() == dest.Kind() && at.Type().ConvertibleTo(dest.Type()) && !isDuration(v):
		dest.Set(at.Convert(dest.Type()))
	default:
		return d.mismatch(goType(v), dest)
	}
	return nil
}
