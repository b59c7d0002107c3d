package decode

import (
	"fmt"
	"maps"
	"reflect"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/quote"
)

// Error says that a reply does not fit into the destination, or that the destination
// is invalid.
type Error struct {
	// Path is the path of the field in the reply, such as items[2].price. It is empty
	// if the error is about the destination as a whole.
	Path string
	// Problem says what does not fit and what to do.
	Problem string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Path == "" {
		return "reply: " + e.Problem
	}
	return "reply: " + e.Path + " " + e.Problem
}

// Into writes a message to dest. types finds the type of the message in an Any; nil means
// the types that are linked into the program. dest is one of these:
//
//   - A *map[string]any or *any, which receives the result of [Map]. A map with string
//     keys that is not nil, which is cleared first. Its values may have another type than
//     any: then each value must fit into that type.
//   - A message of the same full name, which is reset first.
//   - A pointer to a struct. A struct field's name is that in its json tag, else its Go
//     name in snake_case. Struct fields that the reply's type does not have are not
//     changed. Fields of the reply that the struct does not have are ignored. Struct
//     fields that the reply omits become zero.
//   - If the message has one field, a pointer to a value that this field fits into: a
//     scalar, a time, a slice, a map whose keys are not strings, a message.
//
// A value must fit exactly. Into refuses integers that overflow or lose their sign,
// floats that would be rounded, and an enum value without a name for a string. A pointer
// becomes nil if the reply omits the field, else it points to a new value.
//
// Errors are of type *Error. Into may already have written a part of dest then.
func Into(message proto.Message, types protoargs.Resolver, dest any) error {
	if message == nil || dest == nil {
		return &Error{Problem: "nothing can be decoded from or into nil: give a pointer to a map, a struct or a value"}
	}
	d := &decoder{reader: newReader(types)}
	m := message.ProtoReflect()
	if given, ok := dest.(proto.Message); ok {
		return d.intoMessage(m, given)
	}
	at := reflect.ValueOf(dest)
	switch {
	case at.Kind() == reflect.Map && !at.IsNil() && at.Type().Key().Kind() == reflect.String:
		return d.intoMap(m, at)
	case at.Kind() != reflect.Pointer:
		return &Error{Problem: protoargs.TypeOf(dest) + " cannot be written to: give a pointer to a map, a struct or a value"}
	case at.IsNil():
		return &Error{Problem: fmt.Sprintf("the %s is nil: give the address of a variable", protoargs.TypeOf(dest))}
	}
	return d.top(m, at.Elem())
}

// decoder writes one reply to one destination.
type decoder struct {
	*reader

	path     fieldpath.Path
	hidden   int
	versions protoargs.Versions
}

func (d *decoder) fail(format string, args ...any) error {
	return &Error{Path: d.path.Text(protoargs.MaxPath), Problem: fmt.Sprintf(format, args...)}
}

// echo returns before and the value. It returns "" if no error may show the value.
func (d *decoder) echo(before string, v any) string {
	if d.hidden > 0 {
		return ""
	}
	return before + protoargs.ValueText(v)
}

// top writes the whole reply, or its only field, to dest.
func (d *decoder) top(m protoreflect.Message, dest reflect.Value) error {
	if made := newMessage(dest.Type(), m.Descriptor()); made != nil {
		if err := d.intoMessage(m, made); err != nil {
			return err
		}
		dest.Set(reflect.ValueOf(made))
		return nil
	}
	if dest.Kind() == reflect.Pointer && takesAll(dest.Type().Elem()) {
		made := reflect.New(dest.Type().Elem())
		if err := d.fields(m, made.Elem()); err != nil {
			return err
		}
		dest.Set(made)
		return nil
	}
	if takesAll(dest.Type()) {
		return d.fields(m, dest)
	}
	if protoargs.SpecialOf(m.Descriptor()) != protoargs.Ordinary && m.Descriptor().Fields().Len() != 1 {
		return d.message(m, dest)
	}
	field, err := d.onlyField(m, protoargs.TypeName(dest.Type()))
	if err != nil {
		return err
	}
	return d.field(field, m, dest)
}

// takesAll reports whether values of a type can receive a whole message.
func takesAll(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Map:
		return t.Key().Kind() == reflect.String
	case reflect.Struct:
		return t != protoargs.TimeType
	default:
		return false
	}
}

// onlyField returns the field of a message, and an error if it does not have exactly one.
func (d *decoder) onlyField(m protoreflect.Message, dest string) (protoreflect.FieldDescriptor, error) {
	fields := m.Descriptor().Fields()
	switch names := protoargs.FieldNames(m.Descriptor()); len(names) {
	case 0:
		return nil, d.fail("has no fields, so nothing of it goes into %s", dest)
	case 1:
		return fields.Get(0), nil
	default:
		return nil, d.fail("has the fields %s, of which one %s holds only one: decode it into a map or a struct",
			quote.Clip(protoargs.Listed(names, "and"), protoargs.MaxPath), dest)
	}
}

// intoMessage fills a message that has the full name of the reply, or of the reply's only
// field.
func (d *decoder) intoMessage(m protoreflect.Message, dest proto.Message) error {
	into := protoargs.MessageOf(dest)
	if into == nil {
		return d.fail("cannot go into a %s that is nil: give a message", protoargs.TypeOf(dest))
	}
	name := into.Descriptor().FullName()
	if m.Descriptor().FullName() == name {
		return d.copyMessage(m, into)
	}
	if fields := m.Descriptor().Fields(); fields.Len() == 1 && fields.Get(0).Message() != nil && !fields.Get(0).IsList() && !fields.Get(0).IsMap() {
		if fields.Get(0).Message().FullName() == name {
			d.path = append(d.path, fieldpath.Step{Field: string(fields.Get(0).Name())})
			return d.copyMessage(m.Get(fields.Get(0)).Message(), into)
		}
	}
	return d.fail("is a message %s and does not go into a %s", protoargs.FullName(m.Descriptor()), protoargs.FullName(into.Descriptor()))
}

// fields writes a message's fields to a map, a struct or an empty interface.
func (d *decoder) fields(m protoreflect.Message, dest reflect.Value) error {
	switch dest.Kind() {
	case reflect.Interface:
		return d.intoInterface(d.reader.fields(m), dest)
	case reflect.Map:
		made := reflect.MakeMap(dest.Type())
		if err := d.intoMap(m, made); err != nil {
			return err
		}
		dest.Set(made)
		return nil
	default:
		return d.intoStruct(m, dest)
	}
}

// intoMap fills a map with string keys.
func (d *decoder) intoMap(m protoreflect.Message, dest reflect.Value) error {
	dest.Clear()
	if plain, ok := reflect.TypeAssert[map[string]any](dest); ok {
		maps.Copy(plain, d.reader.fields(m))
		return nil
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.HasPresence() && !m.Has(field) {
			continue
		}
		value := reflect.New(dest.Type().Elem()).Elem()
		if err := d.field(field, m, value); err != nil {
			return err
		}
		dest.SetMapIndex(reflect.ValueOf(string(field.Name())).Convert(dest.Type().Key()), value)
	}
	return nil
}

// intoStruct fills the fields of a struct that the message also has.
func (d *decoder) intoStruct(m protoreflect.Message, dest reflect.Value) error {
	fields := m.Descriptor().Fields()
	known, found := protoargs.FieldsOf(dest.Type()), fields.Len() == 0
	for _, f := range known {
		field := fields.ByName(protoreflect.Name(f.Name))
		if field == nil {
			if field = fields.ByJSONName(f.Name); field != nil {
				return d.fail("has no field %s, which is the JSON name of %s: write that in the json tag of %s", protoargs.PlainName(f.Name), field.Name(), protoargs.TypeName(dest.Type()))
			}
			if name := sameLetters(fields, f.Name); name != "" {
				return d.fail("has no field %s, and has %s: write that in the json tag of %s", protoargs.PlainName(f.Name), name, protoargs.TypeName(dest.Type()))
			}
			continue
		}
		found = true
		at, ok := reach(dest, f.Index)
		if !ok {
			return d.fail("has %s for %s, which lies in an embedded pointer that is not exported: embed the struct itself", field.Name(), protoargs.TypeName(dest.Type()))
		}
		if err := d.field(field, m, at); err != nil {
			return err
		}
	}
	if !found {
		return d.fail("has the fields %s, and %s has none of them: name its fields after the reply's, in json tags or in CamelCase",
			quote.Clip(strings.Join(protoargs.FieldNames(m.Descriptor()), ", "), protoargs.MaxPath), protoargs.TypeName(dest.Type()))
	}
	return nil
}

// sameLetters returns the name of the field that differs from name only in underscores and
// case, "" if there is none. A struct field with such a name would stay empty.
func sameLetters(fields protoreflect.FieldDescriptors, name string) string {
	for i := range fields.Len() {
		if has := string(fields.Get(i).Name()); contract.SameLetters(has, name) {
			return has
		}
	}
	return ""
}

// reach returns the struct field at index. It creates embedded structs on the way.
func reach(at reflect.Value, index []int) (reflect.Value, bool) {
	for i, step := range index {
		if i > 0 && at.Kind() == reflect.Pointer {
			if at.IsNil() {
				if !at.CanSet() {
					return reflect.Value{}, false
				}
				at.Set(reflect.New(at.Type().Elem()))
			}
			at = at.Elem()
		}
		at = at.Field(step)
	}
	return at, at.CanSet()
}

// newMessage returns an empty message for a pointer type. It returns nil if the type is
// not that of a message.
func newMessage(t reflect.Type, desc protoreflect.MessageDescriptor) proto.Message {
	if t == dynamicType {
		return dynamicpb.NewMessage(desc)
	}
	if t.Kind() != reflect.Pointer || !t.Implements(protoargs.MessageType) {
		return nil
	}
	made, _ := reflect.TypeAssert[proto.Message](reflect.New(t.Elem()))
	return made
}

var dynamicType = reflect.TypeFor[*dynamicpb.Message]()

// copyMessage makes a message equal to another of the same full name.
func (d *decoder) copyMessage(from, into protoreflect.Message) error {
	proto.Reset(into.Interface())
	differences, err := d.versions.Copy(from, into, d.types)
	switch {
	case len(differences) > 0:
		field, value := protoargs.Parts(differences[0])
		d.path = append(d.path, fieldpath.Step{Field: field})
		return d.fail("%sis %s in the reply, and %s in the message given: build both from one .proto", value, differences[0].Built, differences[0].Served)
	case err != nil:
		return d.fail("is a %s that does not fit the one given: build both from one .proto", protoargs.FullName(into.Descriptor()))
	default:
		return nil
	}
}
