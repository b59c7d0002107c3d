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

// ToMap returns a message as plain Go values, by field name. types finds the type of the
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
// extensions, are omitted. Encode converts the map to a message that is equal to this one,
// except for enum values without a name and for numbers of a Value that are not finite. The
// map of nil is nil.
func ToMap(message proto.Message, types Resolver) map[string]any {
	if message == nil {
		return nil
	}
	return newReader(types).fields(message.ProtoReflect())
}

// reader converts messages to plain values.
type reader struct {
	types Resolver
	// anys is the number of Anys around the current value. Each Any is unpacked into a
	// copy, so without a bound the work would grow with the square of their number.
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

// enumValue returns the name of a value, or its number if it has none.
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

// message returns the plain value of a message that is the value of a field.
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

// holds reports whether a time.Duration can hold d.
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
	// Convert a dynamic message to the generated type through its bytes.
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

// anyField returns the content of an Any as a map.
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

// unpack returns the message in an Any. It returns nil if the type is not known, if the
// bytes are not a message of that type, or if too many Anys contain it.
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
