package decode

import (
	"reflect"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onecall-dev/onecall/internal/protoargs"
)

// Map returns a message as plain Go values, by field name. types finds the type of the
// message in an Any; nil means the types that are linked into the program.
//
//   - Scalars without presence, repeated fields and maps are always in the result. A field
//     with presence, such as a message or a member of a oneof, is there only if it is set.
//   - Integers are int32, int64, uint32 or uint64; floats are float32 and float64; bytes
//     are []byte. An enum is the value's name, or an int32 if it has none.
//   - Messages are map[string]any; repeated fields are []any; maps are map[K]any, where K
//     is string or the Go type of the integer.
//   - Values that encoding/json cannot write are the text that protobuf's JSON has for
//     them: the keys of a map with bool keys are "true" and "false", and a float that is
//     not finite is "NaN", "Infinity" or "-Infinity".
//   - A Timestamp is a time.Time in UTC and a Duration a time.Duration. Either is a map of
//     its fields if the Go type cannot hold it. Struct, Value and ListValue are JSON
//     values, with float64 for all numbers. FieldMask is []string. A wrapper is its value.
//   - An Any is the map of its message and "@type". If the message has a Go value of its
//     own, as above, that value is under "value". If the type is not known, or the bytes
//     are not a message of it, the bytes are under "value".
//
// The message itself is always a map of its fields. Fields that are not in its schema, and
// extensions, are omitted. Package encode converts the map to a message that is equal to
// this one, except for enum values without a name and for numbers of a Value that are not
// finite. The map of nil is nil.
func Map(message proto.Message, types protoargs.Resolver) map[string]any {
	if message == nil {
		return nil
	}
	return newReader(types).fields(message.ProtoReflect())
}

// reader converts messages to plain values.
type reader struct {
	types protoargs.Resolver
	// anys is the number of Anys around the current value. Each Any is unpacked into a
	// copy, so without a bound the work would grow with the square of their number.
	anys int
}

func newReader(types protoargs.Resolver) *reader {
	if types == nil {
		types = protoregistry.GlobalTypes
	}
	return &reader{types: types}
}

func (r *reader) fields(m protoreflect.Message) map[string]any {
	fields := m.Descriptor().Fields()
	out := make(map[string]any, fields.Len())
	for i := range fields.Len() {
		field := fields.Get(i)
		if !field.HasPresence() || m.Has(field) {
			out[string(field.Name())] = r.field(field, m.Get(field))
		}
	}
	return out
}

func (r *reader) field(field protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch {
	case field.IsMap():
		return r.mapField(field, v.Map())
	case field.IsList():
		values := v.List()
		out := make([]any, 0, values.Len())
		for i := range values.Len() {
			out = append(out, r.value(field, values.Get(i)))
		}
		return out
	default:
		return r.value(field, v)
	}
}

func (r *reader) value(field protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return r.message(v.Message())
	case protoreflect.EnumKind:
		return enumValue(field.Enum(), v.Enum())
	case protoreflect.BytesKind:
		return append([]byte{}, v.Bytes()...)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		if text := protoargs.NotFiniteText(v.Float()); text != "" {
			return text
		}
		return v.Interface()
	default:
		return v.Interface()
	}
}

// enumValue returns the name of a value, or its number if it has none.
func enumValue(enum protoreflect.EnumDescriptor, number protoreflect.EnumNumber) any {
	if value := enum.Values().ByNumber(number); value != nil {
		return string(value.Name())
	}
	return int32(number)
}

// mapField returns a map with the Go type of the keys. JSON has no bool keys, so they become
// strings.
func (r *reader) mapField(field protoreflect.FieldDescriptor, values protoreflect.Map) any {
	plain := func(key protoreflect.MapKey) any { return key.Interface() }
	if field.MapKey().Kind() == protoreflect.BoolKind {
		plain = func(key protoreflect.MapKey) any { return key.String() }
	}
	keyType := reflect.TypeOf(plain(field.MapKey().Default().MapKey()))
	out := reflect.MakeMapWithSize(reflect.MapOf(keyType, anyType), values.Len())
	values.Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
		value := r.value(field.MapValue(), v)
		out.SetMapIndex(reflect.ValueOf(plain(key)), reflect.ValueOf(&value).Elem())
		return true
	})
	return out.Interface()
}

var anyType = reflect.TypeFor[any]()

// message returns the plain value of a message that is the value of a field.
func (r *reader) message(m protoreflect.Message) any {
	switch known := protoargs.Generated(m).(type) {
	case *timestamppb.Timestamp:
		if known.IsValid() {
			return known.AsTime()
		}
	case *durationpb.Duration:
		near := known.AsDuration() // the nearest that a time.Duration can hold
		if same := durationpb.New(near); known.IsValid() && same.GetSeconds() == known.GetSeconds() && same.GetNanos() == known.GetNanos() {
			return near
		}
	case *structpb.Struct:
		return known.AsMap()
	case *structpb.Value:
		return known.AsInterface()
	case *structpb.ListValue:
		return known.AsSlice()
	case *fieldmaskpb.FieldMask:
		return append([]string{}, known.GetPaths()...)
	case *anypb.Any:
		return r.anyField(known)
	case nil:
	default: // a wrapper
		field := m.Descriptor().Fields().Get(0)
		return r.value(field, m.Get(field))
	}
	return r.fields(m)
}

// anyField returns the content of an Any as a map.
func (r *reader) anyField(packed *anypb.Any) map[string]any {
	inside := r.unpack(packed)
	if inside == nil {
		return map[string]any{protoargs.TypeKey: packed.GetTypeUrl(), protoargs.ValueKey: append([]byte{}, packed.GetValue()...)}
	}
	r.anys++
	defer func() { r.anys-- }()
	if protoargs.SpecialOf(inside.Descriptor()) != protoargs.Ordinary {
		return map[string]any{protoargs.TypeKey: packed.GetTypeUrl(), protoargs.ValueKey: r.message(inside)}
	}
	out := r.fields(inside)
	out[protoargs.TypeKey] = packed.GetTypeUrl()
	return out
}

// unpack returns the message in an Any. It returns nil if the type is not known, if the
// bytes are not a message of that type, or if too many Anys contain it.
func (r *reader) unpack(packed *anypb.Any) protoreflect.Message {
	if r.anys >= protoargs.MaxDepth {
		return nil
	}
	inside, err := anypb.UnmarshalNew(packed, proto.UnmarshalOptions{AllowPartial: true, Resolver: r.types})
	if err != nil {
		return nil
	}
	return inside.ProtoReflect()
}
