package protoargs_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/onecall-dev/onecall/internal/protoargs"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// Types of arguments in programs.
type (
	namedInt    int16
	namedString string
	namedByte   byte
	namedBytes  []namedByte
	namedFlag   bool
	namedFloat  float32
	anyArgs     map[string]any
	titled      struct{ Name string }
	good        struct {
		titled

		Price int
	}
	place struct {
		Street string `json:"street"`
		PLZ    string `json:"code,omitempty"`
	}
	nodeIn struct {
		titled

		Next     *nodeIn
		Children []nodeIn          `json:"children,omitempty"`
		Named    map[string]nodeIn `json:"named,omitzero"`
		Skipped  chan int          `json:"-"`
		hidden   func()
	}
)

func TestEncodeTakes(t *testing.T) {
	t.Parallel()
	item := &testv1.Item{Name: "x", Price: 7}
	now := time.Date(2026, 2, 3, 4, 5, 6, 7, time.FixedZone("", 3600))
	var nilItems []*testv1.Item
	for name, test := range map[string]struct {
		args map[string]any
		want proto.Message
	}{
		"an int": {anyArgs{"int32_value": 7}, &testv1.Optionals{Int32Value: new(int32(7))}},
		"the ends of int32 and int64": {
			anyArgs{"int32_value": math.MinInt32, "sfixed32_value": math.MaxInt32, "int64_value": int64(math.MinInt64), "sint64_value": uint64(math.MaxInt64)},
			&testv1.Optionals{Int32Value: new(int32(math.MinInt32)), Sfixed32Value: new(int32(math.MaxInt32)), Int64Value: new(int64(math.MinInt64)), Sint64Value: new(int64(math.MaxInt64))},
		},
		"the ends of uint32 and uint64": {
			anyArgs{"uint32_value": uint(math.MaxUint32), "fixed32_value": int8(0), "uint64_value": uint64(math.MaxUint64), "fixed64_value": uint8(255)},
			&testv1.Optionals{Uint32Value: new(uint32(math.MaxUint32)), Fixed32Value: new(uint32(0)), Uint64Value: new(uint64(math.MaxUint64)), Fixed64Value: new(uint64(255))},
		},
		"named types": {
			anyArgs{"sint32_value": namedInt(-3), "string_value": namedString("x"), "bytes_value": namedBytes{1, 2}, "bool_value": namedFlag(true), "float_value": namedFloat(0.5)},
			&testv1.Optionals{Sint32Value: new(int32(-3)), StringValue: new("x"), BytesValue: []byte{1, 2}, BoolValue: new(true), FloatValue: new(float32(0.5))},
		},
		"pointers": {
			anyArgs{"int32_value": new(new(7)), "item": &titledGood, "string_value": new("x")},
			&testv1.Optionals{Int32Value: new(int32(7)), Item: item, StringValue: new("x")},
		},
		"floats without fraction, as JSON has them": {
			anyArgs{"int32_value": 7.0, "uint64_value": float64(1<<53 - 1), "int64_value": float32(-1 << 23)},
			&testv1.Optionals{Int32Value: new(int32(7)), Uint64Value: new(uint64(1<<53 - 1)), Int64Value: new(int64(-1 << 23))},
		},
		"json.Number": {
			anyArgs{"int32_value": json.Number("-0.7e1"), "uint64_value": json.Number("18446744073709551615"), "double_value": json.Number("1e-3"), "float_value": json.Number("-16777216"), "int64_value": json.Number("0e99")},
			&testv1.Optionals{Int32Value: new(int32(-7)), Uint64Value: new(uint64(math.MaxUint64)), DoubleValue: new(1e-3), FloatValue: new(float32(-1 << 24)), Int64Value: new(int64(0))},
		},
		"integers for floats": {
			anyArgs{"double_value": int64(math.MinInt64), "float_value": 1<<24 + 2},
			&testv1.Optionals{DoubleValue: new(float64(math.MinInt64)), FloatValue: new(float32(1<<24 + 2))},
		},
		"0.1 for a float":      {anyArgs{"float_value": 0.1}, &testv1.Optionals{FloatValue: new(float32(0.1))}},
		"a float for a double": {anyArgs{"double_value": float32(0.1)}, &testv1.Optionals{DoubleValue: new(float64(float32(0.1)))}},
		"NaN and infinities": {
			anyArgs{"double_value": math.NaN(), "float_value": math.Inf(-1)},
			&testv1.Optionals{DoubleValue: new(math.NaN()), FloatValue: new(float32(math.Inf(-1)))},
		},
		"bytes":               {anyArgs{"bytes_value": []byte("\xff\x00")}, &testv1.Optionals{BytesValue: []byte("\xff\x00")}},
		"an array of bytes":   {anyArgs{"bytes_value": [2]byte{1, 2}}, &testv1.Optionals{BytesValue: []byte{1, 2}}},
		"no bytes":            {anyArgs{"bytes_value": []byte(nil)}, &testv1.Optionals{BytesValue: []byte{}}},
		"an enum by name":     {anyArgs{"mood": "MOOD_CALM"}, &testv1.Optionals{Mood: testv1.Mood_MOOD_CALM.Enum()}},
		"an enum by number":   {anyArgs{"mood": int8(-1)}, &testv1.Optionals{Mood: testv1.Mood_MOOD_SOUR.Enum()}},
		"an enum of its type": {anyArgs{"mood": testv1.Mood(99)}, &testv1.Optionals{Mood: testv1.Mood(99).Enum()}},
		"an enum's pointer":   {anyArgs{"mood": testv1.Mood_MOOD_CALM.Enum()}, &testv1.Optionals{Mood: testv1.Mood_MOOD_CALM.Enum()}},
		"a message as a map":  {anyArgs{"item": anyArgs{"name": "x", "price": 7}}, &testv1.Optionals{Item: item}},
		"a map of one type":   {anyArgs{"address": map[namedString]namedString{"street": "x", "code": "y"}, "customer_name": "adam", "mood": 1}, &testv1.PlaceRequest{CustomerName: "adam", Mood: 1, Address: &testv1.Address{Street: "x", Code: "y"}}},
		"a message itself":    {anyArgs{"item": item}, &testv1.Optionals{Item: item}},
		"nothing":             {nil, &testv1.Optionals{}},
		"slices": {
			anyArgs{"int32_values": []int{1, 2}, "string_values": []string{"a", "b"}, "bool_values": [1]bool{true}, "moods": []any{"MOOD_CALM", 2}, "items": []*testv1.Item{item}, "uint32_values": []byte{7}, "bytes_values": [][]byte{{1}}},
			&testv1.Lists{
				Int32Values: []int32{1, 2}, StringValues: []string{"a", "b"}, BoolValues: []bool{true}, Moods: []testv1.Mood{1, 2},
				Items: []*testv1.Item{item}, Uint32Values: []uint32{7}, BytesValues: [][]byte{{1}},
			},
		},
		"empty slices": {anyArgs{"int32_values": []int(nil), "items": nilItems, "string_values": []any{}}, &testv1.Lists{}},
		"maps": {
			anyArgs{
				"string_keys": map[namedString]any{"a": "b"}, "int32_keys": map[int][]byte{-1: {1}}, "int64_keys": map[any]any{int8(3): true},
				"uint32_keys": map[uint8]float32{1: 0.5}, "sint32_keys": map[int16]any{5: titledGood}, "bool_keys": map[namedFlag]*testv1.Item{true: item},
				"sint64_keys": anyKeys{7: "MOOD_CALM"},
			},
			&testv1.Maps{
				StringKeys: map[string]string{"a": "b"}, Int32Keys: map[int32][]byte{-1: {1}}, Int64Keys: map[int64]bool{3: true},
				Uint32Keys: map[uint32]float64{1: 0.5}, Sint32Keys: map[int32]*testv1.Item{5: item}, BoolKeys: map[bool]*testv1.Item{true: item},
				Sint64Keys: map[int64]testv1.Mood{7: 1},
			},
		},
		"a struct": {
			anyArgs{"customer_name": "adam", "items": []good{titledGood}, "address": place{"x", "y"}, "mood": 0},
			&testv1.PlaceRequest{CustomerName: "adam", Items: []*testv1.Item{item}, Address: &testv1.Address{Street: "x", Code: "y"}},
		},
		"a struct without what is nil or skipped": {
			anyArgs{"node": nodeIn{titled: titled{"a"}, Next: &nodeIn{titled: titled{"b"}, Children: []nodeIn{{}}}, Skipped: make(chan int), hidden: func() {}}},
			&testv1.Choice{Kind: &testv1.Choice_Node{Node: &testv1.Node{Name: "a", Next: &testv1.Node{Name: "b", Children: []*testv1.Node{{}}}}}},
		},
		"a member of a oneof": {
			anyArgs{"customer_name": "adam", "address": &place{"x", "y"}, "mood": 0, "phone": "1"},
			&testv1.PlaceRequest{CustomerName: "adam", Address: &testv1.Address{Street: "x", Code: "y"}, Contact: &testv1.PlaceRequest_Phone{Phone: "1"}},
		},
		"a message that may hold itself": {anyArgs{"name": "a", "next": anyArgs{"name": "b"}}, &testv1.Node{Name: "a", Next: &testv1.Node{Name: "b"}}},
		"null for a Value":               {anyArgs{"json": nil}, &testv1.Choice{Kind: &testv1.Choice_Json{Json: structpb.NewNullValue()}}},
		"times": {
			anyArgs{"times": map[string]any{"a": now, "b": new(now), "c": timestamppb.New(now), "d": anyArgs{"seconds": now.Unix(), "nanos": 7}}},
			&testv1.Maps{Times: map[string]*timestamppb.Timestamp{"a": timestamppb.New(now), "b": timestamppb.New(now), "c": timestamppb.New(now), "d": timestamppb.New(now)}},
		},
		"a message of no fields": {anyArgs{"nothing": anyArgs{}}, &testv1.Choice{Kind: &testv1.Choice_Nothing{Nothing: &emptypb.Empty{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := encode("test.kinds.mirror", test.want.ProtoReflect().Descriptor(), nil, test.args)
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, test.want) {
				t.Errorf("%v became %v", test.args, got)
			}
		})
	}
}

var titledGood = good{titled{"x"}, 7}

type anyKeys map[uint64]any

// TestEncodeWellKnown passes each well-known message as its Go value, and as the message
// itself.
func TestEncodeWellKnown(t *testing.T) {
	t.Parallel()
	object := map[string]any{"null": nil, "list": []any{1, "a", true}, "map": map[string]int{"a": 1}, "number": json.Number("1.5"), "strings": []string{"x"}}
	want := &testv1.WellKnown{
		Timestamp:     &timestamppb.Timestamp{Seconds: -62135596800},
		Duration:      &durationpb.Duration{Seconds: -1, Nanos: -5e8},
		Anything:      anyOf(t, &testv1.Item{Name: "x", Price: 7}),
		Object:        &structpb.Struct{},
		Value:         structpb.NewNullValue(),
		ListValue:     &structpb.ListValue{Values: []*structpb.Value{structpb.NewNumberValue(1), structpb.NewNullValue()}},
		FieldMask:     &fieldmaskpb.FieldMask{Paths: []string{"a.b", "c"}},
		Empty:         &emptypb.Empty{},
		DoubleWrapper: wrapperspb.Double(0.1),
		FloatWrapper:  wrapperspb.Float(0.1),
		Int64Wrapper:  wrapperspb.Int64(-7),
		Uint64Wrapper: wrapperspb.UInt64(7),
		Int32Wrapper:  wrapperspb.Int32(0),
		Uint32Wrapper: wrapperspb.UInt32(7),
		BoolWrapper:   wrapperspb.Bool(false),
		StringWrapper: wrapperspb.String("x"),
		BytesWrapper:  wrapperspb.Bytes([]byte{1}),
		Anythings: []*anypb.Any{
			anyOf(t, durationpb.New(time.Minute)), anyOf(t, anyOf(t, &testv1.Item{})),
			{TypeUrl: "example.com/no.Such", Value: []byte{1}},
			{TypeUrl: "type.googleapis.com/google.protobuf.Value", Value: []byte{8, 0}},
		},
		Numbers: []*wrapperspb.Int32Value{wrapperspb.Int32(1), wrapperspb.Int32(2)},
	}
	made, err := structpb.NewStruct(map[string]any{"null": nil, "list": []any{1, "a", true}, "map": map[string]any{"a": 1}, "number": 1.5, "strings": []any{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	want.Object = made
	given := map[string]any{
		"timestamp": time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), "duration": -1500 * time.Millisecond,
		"anything": map[string]any{"@type": "type.googleapis.com/onecall.test.v1.Item", "name": "x", "price": 7},
		"object":   object, "value": nil, "list_value": []any{1, nil}, "field_mask": []string{"a.b", "c"}, "empty": map[string]any{},
		"double_wrapper": 0.1, "float_wrapper": 0.1, "int64_wrapper": -7, "uint64_wrapper": 7, "int32_wrapper": 0, "uint32_wrapper": 7,
		"bool_wrapper": false, "string_wrapper": new("x"), "bytes_wrapper": []byte{1},
		"anythings": []any{
			durationpb.New(time.Minute),
			map[string]any{"@type": "type.googleapis.com/google.protobuf.Any", "value": &testv1.Item{}},
			map[string]any{"@type": "example.com/no.Such", "value": []byte{1}},
			map[string]any{"@type": "type.googleapis.com/google.protobuf.Value", "value": nil},
		},
		"numbers": []any{1, wrapperspb.Int32(2)},
	}
	find, types := foreign(t)
	for _, plan := range []*protoargs.Plan{
		protoargs.NewPlan("test.kinds.mirror", want.ProtoReflect().Descriptor(), nil),
		protoargs.NewPlan("test.kinds.mirror", find("onecall.test.v1.WellKnown"), types),
	} {
		got, err := plan.Encode(given)
		if err != nil {
			t.Fatal(err)
		}
		sameOnTheWire(t, got, want)
	}
	itself := map[string]any{}
	want.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !field.IsList() {
			itself[string(field.Name())] = v.Message().Interface()
			return true
		}
		var list []any
		for i := range v.List().Len() {
			list = append(list, v.List().Get(i).Message().Interface())
		}
		itself[string(field.Name())] = list
		return true
	})
	got, err := encode("test.kinds.mirror", want.ProtoReflect().Descriptor(), nil, itself)
	if err != nil {
		t.Fatal(err)
	}
	sameOnTheWire(t, got, want)
}

func anyOf(tb testing.TB, m proto.Message) *anypb.Any {
	tb.Helper()
	packed, err := anypb.New(m)
	if err != nil {
		tb.Fatal(err)
	}
	return packed
}

// sameOnTheWire compares messages of one full name, whatever their Go types.
func sameOnTheWire(tb testing.TB, got, want proto.Message) {
	tb.Helper()
	data, err := proto.Marshal(got)
	if err != nil {
		tb.Fatal(err)
	}
	read := want.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(data, read); err != nil {
		tb.Fatal(err)
	}
	if !proto.Equal(read, want) {
		tb.Errorf("got %v\nwant %v", read, want)
	}
}

// TestEncodeKeepsNothing changes the arguments after the call.
func TestEncodeKeepsNothing(t *testing.T) {
	t.Parallel()
	item, data := &testv1.Item{Name: "x"}, []byte{1, 2}
	got, err := encode("test.kinds.mirror", (&testv1.Optionals{}).ProtoReflect().Descriptor(), nil, map[string]any{"item": item, "bytes_value": data})
	if err != nil {
		t.Fatal(err)
	}
	item.Name, data[0] = "changed", 9
	if want := (&testv1.Optionals{Item: &testv1.Item{Name: "x"}, BytesValue: []byte{1, 2}}); !proto.Equal(got, want) {
		t.Errorf("the request changed with its arguments: %v", got)
	}
}

// TestEncodeLarge passes arguments of a megabyte and more, all below the limit.
func TestEncodeLarge(t *testing.T) {
	t.Parallel()
	plan := protoargs.NewPlan("test.kinds.mirror", (&testv1.Lists{}).ProtoReflect().Descriptor(), nil).Limit(someLimit)
	for name, given := range map[string]map[string]any{
		"one string of 1 MB":          {"string_values": []string{strings.Repeat("a", 1<<20)}},
		"one []byte just below 4 MiB": {"bytes_values": [][]byte{make([]byte, someLimit-6)}},
		"many numbers":                {"int32_values": make([]int, 1<<18)},
		"many empty messages":         {"items": slices.Repeat([]any{&testv1.Item{}}, someLimit/30)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plan.Encode(given)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if proto.Size(got) > someLimit {
				t.Errorf("%s: %d bytes", name, proto.Size(got))
			}
		})
	}
}

// TestPlanIsForAll uses a plan from many goroutines. The race detector checks it.
func TestPlanIsForAll(t *testing.T) {
	t.Parallel()
	plan := protoargs.NewPlan("test.kinds.place", (&testv1.PlaceRequest{}).ProtoReflect().Descriptor(), nil)
	given := map[string]any{"customer_name": "adam", "mood": 1, "address": place{"x", "y"}, "items": []good{titledGood}}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				got, err := plan.Encode(given)
				if err != nil || len(got.(*testv1.PlaceRequest).GetItems()) != 1 {
					t.Error(got, err)
				}
				if _, err := plan.Encode(map[string]any{"custom_name": "adam"}); err == nil {
					t.Error("a misspelt name was taken")
				}
			}
		})
	}
	all.Wait()
}

// TestEveryFloatThatJSONWritesIsTaken passes floats as encoding/json writes them.
func TestEveryFloatThatJSONWritesIsTaken(t *testing.T) {
	t.Parallel()
	plan := protoargs.NewPlan("test.kinds.mirror", (&testv1.Optionals{}).ProtoReflect().Descriptor(), nil)
	for _, want := range []float64{1e20, 1 << 63, 1 << 64, 123456789012345660, -1e21, 0.1, math.MaxFloat64, math.SmallestNonzeroFloat64, 9007199254740994} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := plan.Encode(anyArgs{"double_value": json.Number(text)})
		if err != nil || got.(*testv1.Optionals).GetDoubleValue() != want {
			t.Errorf("%s = %v, %v", text, got, err)
		}
	}
}

// encode converts args to a request.
func encode(rpc string, desc protoreflect.MessageDescriptor, types protoargs.Resolver, args map[string]any) (proto.Message, error) {
	return protoargs.NewPlan(rpc, desc, types).Encode(args)
}

// changed returns another version of the tests' schema.
func changed(tb testing.TB, change func(message func(name string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto)) (protoreflect.FileDescriptor, *dynamicpb.Types) {
	tb.Helper()
	file := protodesc.ToFileDescriptorProto(testv1.File_onecall_test_v1_kinds_proto)
	change(func(name string) *descriptorpb.DescriptorProto {
		at := slices.IndexFunc(file.GetMessageType(), func(m *descriptorpb.DescriptorProto) bool { return m.GetName() == name })
		return file.GetMessageType()[at]
	}, file)
	other, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		tb.Fatal(err)
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(other); err != nil {
		tb.Fatal(err)
	}
	return other, dynamicpb.NewTypes(files)
}

// otherVersions change the tests' schema, most of them so that the same bytes have another
// meaning. Each has a message that shows this, the path of the field, and the field's
// description in both versions.
var otherVersions = map[string]struct {
	change       func(message func(name string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto)
	message      proto.Message
	path         string
	ours, theirs string
	// fits is true if both versions read the message in the same way.
	fits bool
}{
	"an int32 for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_INT32),
		message: &testv1.PlaceResponse{Items: []*testv1.Item{{}, {Price: 1<<32 + 5}}}, path: "items.price", ours: "int64", theirs: "int32",
	},
	"a sint64 for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_SINT64),
		message: &testv1.Item{Price: 7}, path: "price", ours: "int64", theirs: "sint64",
	},
	"an uint64 for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_UINT64),
		message: &testv1.Item{Price: -5}, path: "price", ours: "int64", theirs: "uint64",
	},
	"a bool for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_BOOL),
		message: &testv1.Item{Price: 7}, path: "price", ours: "int64", theirs: "bool",
	},
	"a string for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING),
		message: &testv1.Item{Price: 7}, path: "price", ours: "int64", theirs: "string",
	},
	"bytes for a string": {
		change:  retype("Node", 0, descriptorpb.FieldDescriptorProto_TYPE_BYTES),
		message: &testv1.Node{Named: map[string]*testv1.Node{"a": {Name: "x"}}}, path: "name", ours: "string", theirs: "bytes",
	},
	"numbers that were swapped": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			fields := message("Address").GetField()
			fields[0].Number, fields[1].Number = fields[1].Number, fields[0].Number
		},
		message: &testv1.PlaceRequest{Address: &testv1.Address{Street: "x"}}, path: "address.street", ours: "number 1", theirs: "number 2",
	},
	"a number that moved": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			message("Address").GetField()[1].Number = new(int32(9))
		},
		message: &testv1.Address{Street: "x", Code: "y"}, path: "code", ours: "number 2", theirs: "number 9",
	},
	"a list for one value": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			message("CountRequest").GetField()[0].Label = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
		},
		message: &testv1.CountRequest{Words: []string{"a", "b"}}, path: "words", ours: "repeated", theirs: "one value",
	},
	"another key of a map": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			maps := message("Maps")
			for _, entry := range maps.GetNestedType() {
				if entry.GetName() == "Int64KeysEntry" {
					entry.GetField()[0].Type = descriptorpb.FieldDescriptorProto_TYPE_SINT64.Enum()
				}
			}
		},
		message: &testv1.Maps{Int64Keys: map[int64]bool{7: true}}, path: "int64_keys[key]", ours: "int64", theirs: "sint64",
	},
	"a time for a duration": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			for _, field := range message("WellKnown").GetField() {
				if field.GetName() == "duration" {
					field.TypeName = new(".google.protobuf.Timestamp")
				}
			}
		},
		message: &testv1.WellKnown{Duration: durationpb.New(1)}, path: "duration", ours: "google.protobuf.Duration", theirs: "google.protobuf.Timestamp",
	},
	"an enum's values that were swapped": {
		change:  swapMoods,
		message: &testv1.Lists{Moods: []testv1.Mood{0, testv1.Mood_MOOD_CALM}}, path: "moods MOOD_CALM", ours: "number 1", theirs: "number 2",
	},
	"a secret among them": {
		change:  swapMoods,
		message: &testv1.Secrets{Mood: testv1.Mood_MOOD_CALM.Enum()}, path: "mood MOOD_CALM", ours: "number 1", theirs: "number 2",
	},
	"a field that is not set": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_INT32),
		message: &testv1.Item{Name: "x"}, path: "price", ours: "int64", theirs: "int32",
	},
	"an enum's value that has another name": {
		change: func(_ func(string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto) {
			file.GetEnumType()[0].GetValue()[1].Name = new("MOOD_SERENE")
		},
		message: &testv1.Lists{}, path: "moods MOOD_CALM", ours: "number 1", theirs: "named MOOD_SERENE",
	},
	"presence that changed": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			message("PlaceRequest").GetField()[3].Proto3Optional = nil
			message("PlaceRequest").GetField()[3].OneofIndex = nil
			message("PlaceRequest").OneofDecl = message("PlaceRequest").GetOneofDecl()[:1]
			message("PlaceRequest").GetField()[8].Proto3Optional = nil
			message("PlaceRequest").GetField()[8].OneofIndex = nil
		},
		message: &testv1.PlaceRequest{Note: new("x")}, fits: true,
	},
	"a field that is gone": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			message("Item").Field = message("Item").GetField()[:1]
		},
		message: &testv1.PlaceResponse{Items: []*testv1.Item{{Name: "x", Price: 7}}}, fits: true,
	},
	"an enum's value that is gone": {
		change: func(_ func(string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto) {
			moods := file.GetEnumType()[0]
			moods.Value = moods.GetValue()[:1]
		},
		message: &testv1.Lists{Moods: []testv1.Mood{testv1.Mood_MOOD_CALM}}, fits: true,
	},
}

func retype(message string, field int, kind descriptorpb.FieldDescriptorProto_Type) func(func(string) *descriptorpb.DescriptorProto, *descriptorpb.FileDescriptorProto) {
	return func(find func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
		find(message).GetField()[field].Type = kind.Enum()
	}
}

func swapMoods(_ func(string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto) {
	moods := file.GetEnumType()[0].GetValue()
	moods[1].Number, moods[2].Number = moods[2].Number, moods[1].Number
}

// TestAMessageThatAnotherSchemaReadsOtherwiseIsRefused passes a generated message to a
// schema that has other fields under the same message name.
func TestAMessageThatAnotherSchemaReadsOtherwiseIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range otherVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other, types := changed(t, test.change)
			// A message is accepted for a field of its own type, so put each into one.
			holder := holderOf(t, test.message.ProtoReflect().Descriptor(), other)
			got, err := encode("test.kinds.mirror", holder, types, anyArgs{"held": test.message})
			if test.fits {
				if err != nil {
					t.Fatal(err)
				}
				sameOnTheWire(t, got.ProtoReflect().Get(holder.Fields().Get(0)).Message().Interface(), test.message)
				return
			}
			want := "held." + test.path + " is " + test.ours + " in the message given, and " + test.theirs + " in the schema: build both from one .proto"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, %v, want %s", got, err, want)
			}
		})
	}
}

// holderOf returns a message type with one optional field, held, of a type in file.
func holderOf(tb testing.TB, held protoreflect.Descriptor, file protoreflect.FileDescriptor) protoreflect.MessageDescriptor {
	tb.Helper()
	resolver := new(protoregistry.Files)
	if err := resolver.RegisterFile(file); err != nil {
		tb.Fatal(err)
	}
	made, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("holder.proto"), Syntax: new("proto3"), Dependency: []string{file.Path()},
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Holder"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: new("held"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), TypeName: new("." + string(held.FullName())),
		}}}},
	}, resolver)
	if err != nil {
		tb.Fatal(err)
	}
	return made.Messages().Get(0)
}

// TestEachDifferenceOfTwoVersionsIsReported passes a message with two differences.
func TestEachDifferenceOfTwoVersionsIsReported(t *testing.T) {
	t.Parallel()
	other, types := changed(t, func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
		for _, field := range message("Item").GetField() {
			field.Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		}
	})
	holder := holderOf(t, (&testv1.Item{}).ProtoReflect().Descriptor(), other)
	_, err := encode("test.kinds.mirror", holder, types, anyArgs{"held": &testv1.Item{Name: "tea", Price: 7}})
	var bad *protoargs.ArgumentError
	if !errors.As(err, &bad) || len(bad.Problems) != 2 || bad.Problems[0].Path != "held.name" || bad.Problems[1].Path != "held.price" || bad.Problems[0].Kind != protoargs.WrongType {
		t.Errorf("got %v", err)
	}
}

// TestFieldsThatAnotherSchemaHasInOneOneofAreRefused sets two fields, of which the other
// schema would lose one.
func TestFieldsThatAnotherSchemaHasInOneOneofAreRefused(t *testing.T) {
	t.Parallel()
	other, types := changed(t, func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
		address := message("Address")
		address.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: new("where")}}
		address.GetField()[0].OneofIndex, address.GetField()[1].OneofIndex = new(int32(0)), new(int32(0))
	})
	holder := holderOf(t, (&testv1.Address{}).ProtoReflect().Descriptor(), other)
	got, err := encode("test.kinds.mirror", holder, types, anyArgs{"held": &testv1.Address{Street: "x", Code: "y"}})
	if want := "held.code is not in the oneof of street in the message given, and in the oneof of street in the schema"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
}

// TestAGeneratedEnumIsNoOtherValue passes a number that is another value in the schema.
func TestAGeneratedEnumIsNoOtherValue(t *testing.T) {
	t.Parallel()
	other, types := changed(t, swapMoods)
	plan := protoargs.NewPlan("test.kinds.mirror", other.Messages().ByName("Optionals"), types)
	got, err := plan.Encode(anyArgs{"mood": testv1.Mood_MOOD_CALM})
	if err == nil || !strings.Contains(err.Error(), "mood has a number 1 that onecall.test.v1.Mood has for another value") {
		t.Errorf("got %v, %v", got, err)
	}
	reply, err := plan.Encode(anyArgs{"mood": "MOOD_CALM"})
	if err != nil {
		t.Fatal(err)
	}
	var into struct{ Mood testv1.Mood }
	if err := protoargs.Decode(reply, types, &into); err == nil || !strings.Contains(err.Error(), "mood has a number that testv1.Mood has for another value") {
		t.Errorf("%v was decoded as %v, %v", reply, into, err)
	}
}

// TestAnEmptyAnyThatCameOutCanBeGivenAgain passes a decoded reply as an argument.
func TestAnEmptyAnyThatCameOutCanBeGivenAgain(t *testing.T) {
	t.Parallel()
	reply := &testv1.Choice{Kind: &testv1.Choice_Anything{Anything: &anypb.Any{}}}
	decoded := make(map[string]any)
	if err := protoargs.Decode(reply, nil, &decoded); err != nil {
		t.Fatal(err)
	}
	got, err := encode("test.kinds.mirror", reply.ProtoReflect().Descriptor(), nil, anyArgs{"anything": decoded["anything"]})
	if err != nil || !proto.Equal(got, reply) {
		t.Errorf("%v was given again as %v, %v", decoded["anything"], got, err)
	}
}
