package protoargs_test

import (
	"encoding/json"
	"math"
	"math/rand"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/protoargs/decode"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/protoargs/protoargstest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// random fills messages with random values for all types of fields.
type random struct {
	*rand.Rand

	types protoargs.Resolver
}

func (r random) fill(m protoreflect.Message, depth int) {
	switch m.Descriptor().FullName() {
	case "google.protobuf.Timestamp":
		r.seconds(m, r.Int63n(253402300800+62135596800)-62135596800, 1)
		return
	case "google.protobuf.Duration":
		seconds := r.Int63n(315576000000)
		if r.Intn(2) == 0 {
			seconds = r.Int63n(int64(math.MaxInt64 / time.Second))
		}
		r.seconds(m, seconds, int32(1-2*r.Intn(2)))
		return
	case "google.protobuf.Any":
		r.any(m, depth)
		return
	}
	fields := m.Descriptor().Fields()
	for i := range m.Descriptor().Oneofs().Len() {
		oneof := m.Descriptor().Oneofs().Get(i)
		if oneof.IsSynthetic() || oneof.Name() != "kind" && r.Intn(4) == 0 {
			continue
		}
		member := oneof.Fields().Get(r.Intn(oneof.Fields().Len()))
		if depth < 1 && member.Message() != nil {
			member = oneof.Fields().Get(1)
		}
		r.field(m, member, depth)
	}
	for i := range fields.Len() {
		field := fields.Get(i)
		oneof := field.ContainingOneof()
		if oneof != nil && !oneof.IsSynthetic() || !contract.Required(field) && (depth < 1 || r.Intn(2) == 0) {
			continue
		}
		r.field(m, field, depth)
	}
}

func (r random) seconds(m protoreflect.Message, seconds int64, sign int32) {
	m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfInt64(seconds*int64(sign)))
	m.Set(m.Descriptor().Fields().ByNumber(2), protoreflect.ValueOfInt32(r.Int31n(1e9)*sign))
}

func (r random) any(m protoreflect.Message, depth int) {
	names := []protoreflect.FullName{
		"onecall.test.v1.Item", "onecall.test.v1.Maps", "google.protobuf.Timestamp", "google.protobuf.Empty",
		"google.protobuf.Struct", "google.protobuf.BytesValue", "google.protobuf.Any",
	}
	packed, err := r.types.FindMessageByName(names[r.Intn(len(names)-max(0, 1-depth))])
	if err != nil {
		panic(err)
	}
	inside := packed.New()
	r.fill(inside, depth-1)
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(inside.Interface())
	if err != nil {
		panic(err)
	}
	url := "type.googleapis.com/" + string(packed.Descriptor().FullName())
	if r.Intn(5) == 0 {
		url = "types.example.com/nobody.knows.This"
	}
	m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfString(url))
	m.Set(m.Descriptor().Fields().ByNumber(2), protoreflect.ValueOfBytes(data))
}

func (r random) field(m protoreflect.Message, field protoreflect.FieldDescriptor, depth int) {
	switch {
	case field.IsList():
		list := m.Mutable(field).List()
		for range r.Intn(4) {
			list.Append(r.value(field, list.NewElement(), depth))
		}
	case field.IsMap():
		dict := m.Mutable(field).Map()
		for range r.Intn(4) {
			dict.Set(r.value(field.MapKey(), protoreflect.Value{}, depth).MapKey(), r.value(field.MapValue(), dict.NewValue(), depth))
		}
	default:
		m.Set(field, r.value(field, m.NewField(field), depth))
	}
}

func (r random) value(field protoreflect.FieldDescriptor, slot protoreflect.Value, depth int) protoreflect.Value {
	bits := r.Uint64() >> r.Intn(64) // numbers of all lengths
	if r.Intn(2) == 0 {
		bits = -bits
	}
	switch field.Kind() {
	case protoreflect.MessageKind:
		r.fill(slot.Message(), depth-1)
		return slot
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(r.Intn(values.Len())).Number())
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(bits%2 == 0)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString([]string{"", "a", "é€😀", "\x00\n\"", "@type", "a long one"}[r.Intn(6)])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{byte(bits), 0xff, 0}[:r.Intn(4)])
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(oneNaN(float64(math.Float32frombits(uint32(r.Uint64()))))))
	case protoreflect.DoubleKind:
		if field.Parent().FullName() == "google.protobuf.Value" { // its text "NaN" would be decoded as a string
			return protoreflect.ValueOfFloat64(float64(int64(bits)))
		}
		return protoreflect.ValueOfFloat64([]float64{oneNaN(math.Float64frombits(r.Uint64())), math.NaN(), math.Inf(1), math.Inf(-1)}[max(0, r.Intn(12)-8)])
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(bits))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(bits))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(bits))
	default:
		return protoreflect.ValueOfUint64(bits)
	}
}

// oneNaN returns f, but the same NaN for every NaN: text cannot distinguish them, and the
// test compares an Any by its bytes.
func oneNaN(f float64) float64 {
	if math.IsNaN(f) {
		return math.NaN()
	}
	return f
}

// TestRoundTrip converts random messages to maps and back, with the generated types and with
// a foreign schema.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	desc := (&testv1.MirrorRequest{}).ProtoReflect().Descriptor()
	find, dynamic := protoargstest.Foreign(t)
	for name, test := range map[string]struct {
		desc  protoreflect.MessageDescriptor
		types protoargs.Resolver
		count int
	}{
		"generated":                            {desc, protoregistry.GlobalTypes, 2000},
		"dynamic":                              {find(desc.FullName()), dynamic, 700},
		"dynamic, with generated types in Any": {find(desc.FullName()), protoregistry.GlobalTypes, 700},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan := encode.NewPlan("test.kinds.mirror", test.desc, test.types)
			r := random{rand.New(rand.NewSource(1)), test.types}
			seen := make(map[string]bool)
			for i := range test.count {
				want := dynamicpb.NewMessage(test.desc).New()
				if name == "generated" {
					want = (&testv1.MirrorRequest{}).ProtoReflect()
				}
				r.fill(want, 1+i%6)
				args := decode.Map(want.Interface(), test.types)
				if _, err := json.Marshal(args); err != nil {
					t.Fatalf("message %d as JSON: %v\n%v", i, err, args)
				}
				got, err := plan.Encode(args)
				if err != nil {
					t.Fatalf("message %d: %v\n%v", i, err, args)
				}
				if !proto.Equal(want.Interface(), got) {
					t.Fatalf("message %d became another:\n%v\n%v", i, want, got)
				}
				note(seen, got.ProtoReflect())
			}
			everyField(t, seen, test.desc, make(map[protoreflect.FullName]bool))
		})
	}
}

// note adds the full names of all fields that are set in a message.
func note(seen map[string]bool, m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		seen[string(field.FullName())] = true
		switch {
		case field.IsList() && field.Message() != nil:
			for i := range v.List().Len() {
				note(seen, v.List().Get(i).Message())
			}
		case field.IsMap() && field.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				note(seen, v.Message())
				return true
			})
		case field.Message() != nil && !field.IsMap() && !field.IsList():
			note(seen, v.Message())
		}
		return true
	})
}

// everyField fails if a field of a message, or of a message inside it, was never set. Then the
// test did not cover that field.
func everyField(t *testing.T, seen map[string]bool, desc protoreflect.MessageDescriptor, done map[protoreflect.FullName]bool) {
	t.Helper()
	if done[desc.FullName()] {
		return
	}
	done[desc.FullName()] = true
	for i := range desc.Fields().Len() {
		field := desc.Fields().Get(i)
		if !seen[string(field.FullName())] && !desc.IsMapEntry() {
			t.Errorf("no message had a %s", field.FullName())
		}
		if field.Message() != nil {
			everyField(t, seen, field.Message(), done)
		}
	}
}
