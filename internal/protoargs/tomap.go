package protoargs

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ToMap returns a message as plain Go values, by field name. Types finds what is
// inside an Any; nil means the types that are linked into the program.
//
//   - Scalars without presence, repeated fields and maps are always there; a
//     field with presence, such as a message or a member of a oneof, is there
//     when it is set.
//   - Integers are int32, int64, uint32 or uint64; floats float32 and float64;
//     enums the value's name, or an int32 when it has none; bytes []byte.
//   - Messages are map[string]any; repeated fields []any; maps map[K]any, where
//     K is string or the Go type of the integer.
//   - What encoding/json cannot write is the text that protobuf's JSON has for
//     it: the keys of a map with bool keys are "true" and "false", a float that is
//     not finite is "NaN", "Infinity" or "-Infinity".
//   - A Timestamp is a time.Time in UTC, a Duration a time.Duration, both a map
//     of their fields when Go's type cannot hold them. Struct, Value and
//     ListValue are what JSON says, with float64 for all numbers; FieldMask is
//     []string; a wrapper its value.
//   - An Any is the map of its message and "@type"; when that is one of the
//     above with a Go value, the value is under "value", and when the type is
//     not known or the bytes are not of it, the bytes are.
//
// The message itself is always a map of its fields. Fields that are not in its
// schema, and extensions, are left out. What Encode makes of the map is equal
// to the message, but for enum values without a name and for numbers of a Value
// that are not finite. The map of nil is nil.
func ToMap(message proto.Message, types Resolver) map[string]any {
	if message == nil {
		return nil
	}
	return newReader(types).fields(message.ProtoReflect())
}

// reader makes plain values of messages.
type reader struct {
	types Resolver
	// anys is how many Anys lie around: each is unpacked into a copy, so that
	// their work would grow with the square of their number.
	anys int
}

func newReader(types Resolver) *reader {
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
		if text := notFiniteText(v.Float()); text != "" {
			return text
		}
		return v.Interface()
	default:
		return v.Interface()
	}
}

// enumValue returns the name of a value, or its number when it has none.
func enumValue(enum protoreflect.EnumDescriptor, number protoreflect.EnumNumber) any {
	if value := enum.Values().ByNumber(number); value != nil {
		return string(value.Name())
	}
	return int32(number)
}

func (r *reader) mapField(field protoreflect.FieldDescriptor, values protoreflect.Map) any {
	switch keyType(field.MapKey().Kind()) {
	case "string":
		return mapOf[string](r, field, values)
	case "bool":
		out := make(map[string]any, values.Len())
		values.Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
			out[key.String()] = r.value(field.MapValue(), v)
			return true
		})
		return out
	case "int32":
		return mapOf[int32](r, field, values)
	case "int64":
		return mapOf[int64](r, field, values)
	case "uint32":
		return mapOf[uint32](r, field, values)
	default:
		return mapOf[uint64](r, field, values)
	}
}

func mapOf[K comparable](r *reader, field protoreflect.FieldDescriptor, values protoreflect.Map) map[K]any {
	out := make(map[K]any, values.Len())
	values.Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
		if key, ok := key.Interface().(K); ok {
			out[key] = r.value(field.MapValue(), v)
		}
		return true
	})
	return out
}

// message returns the plain value of a message that is a field's.
func (r *reader) message(m protoreflect.Message) any {
	switch specialOf(m.Descriptor()) {
	case timestamp:
		seconds, nanos := getSeconds(m)
		if at := (&timestamppb.Timestamp{Seconds: seconds, Nanos: nanos}); at.IsValid() {
			return at.AsTime()
		}
	case duration:
		seconds, nanos := getSeconds(m)
		if d := (&durationpb.Duration{Seconds: seconds, Nanos: nanos}); d.IsValid() && holds(d) {
			return d.AsDuration()
		}
	case object, jsonValue, jsonList:
		if value, ok := jsonOf(m); ok {
			return value
		}
	case fieldMask:
		paths := m.Get(m.Descriptor().Fields().Get(0)).List()
		out := make([]string, 0, paths.Len())
		for i := range paths.Len() {
			out = append(out, paths.Get(i).String())
		}
		return out
	case wrapper:
		field := m.Descriptor().Fields().Get(0)
		return r.value(field, m.Get(field))
	case anyMessage:
		return r.anyField(m)
	case ordinary:
	}
	return r.fields(m)
}

// holds reports whether a time.Duration is long enough for d.
func holds(d *durationpb.Duration) bool {
	near := d.AsDuration()
	return int64(near/time.Second) == d.GetSeconds() && int64(near%time.Second) == int64(d.GetNanos())
}

// jsonOf returns the JSON value of a Struct, Value or ListValue.
func jsonOf(m protoreflect.Message) (any, bool) {
	switch message := m.Interface().(type) {
	case *structpb.Struct:
		return message.AsMap(), true
	case *structpb.Value:
		return message.AsInterface(), true
	case *structpb.ListValue:
		return message.AsSlice(), true
	}
	// A dynamic message goes through bytes into the generated type.
	var copied proto.Message
	switch specialOf(m.Descriptor()) {
	case object:
		copied = &structpb.Struct{}
	case jsonList:
		copied = &structpb.ListValue{}
	default:
		copied = &structpb.Value{}
	}
	data, err := proto.Marshal(m.Interface())
	if err != nil || proto.Unmarshal(data, copied) != nil {
		return nil, false
	}
	return jsonOf(copied.ProtoReflect())
}

// anyField returns the map of what an Any holds.
func (r *reader) anyField(m protoreflect.Message) any {
	url, data := anyParts(m)
	out := map[string]any{typeKey: url}
	inside := r.unpack(url, data)
	switch {
	case inside == nil:
		out[valueKey] = append([]byte{}, data...)
		return out
	case specialOf(inside.Descriptor()) != ordinary:
		r.anys++
		out[valueKey] = r.message(inside)
	default:
		r.anys++
		out = r.fields(inside)
		out[typeKey] = url
	}
	r.anys--
	return out
}

func anyParts(m protoreflect.Message) (url string, data []byte) {
	fields := m.Descriptor().Fields()
	return m.Get(fields.ByNumber(typeURLField)).String(), m.Get(fields.ByNumber(anyValueField)).Bytes()
}

// unpack reads an Any; nil when its type is not known, its bytes are not of it,
// or too many Anys lie around it.
func (r *reader) unpack(url string, data []byte) protoreflect.Message {
	if r.anys >= MaxDepth {
		return nil
	}
	goType, err := r.types.FindMessageByURL(url)
	if err != nil {
		return nil
	}
	inside := goType.New()
	if (proto.UnmarshalOptions{AllowPartial: true, Resolver: r.types}).Unmarshal(data, inside.Interface()) != nil {
		return nil
	}
	return inside
}
