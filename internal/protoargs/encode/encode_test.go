package encode_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/protoargs/protoargstest"
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
			got, err := request("test.kinds.mirror", test.want.ProtoReflect().Descriptor(), nil, test.args)
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
		Anything:      protoargstest.AnyOf(t, &testv1.Item{Name: "x", Price: 7}),
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
			protoargstest.AnyOf(t, durationpb.New(time.Minute)), protoargstest.AnyOf(t, protoargstest.AnyOf(t, &testv1.Item{})),
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
	find, types := protoargstest.Foreign(t)
	for _, plan := range []*encode.Plan{
		encode.NewPlan("test.kinds.mirror", want.ProtoReflect().Descriptor(), nil),
		encode.NewPlan("test.kinds.mirror", find("onecall.test.v1.WellKnown"), types),
	} {
		got, err := plan.Encode(given)
		if err != nil {
			t.Fatal(err)
		}
		protoargstest.SameOnTheWire(t, got, want)
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
	got, err := request("test.kinds.mirror", want.ProtoReflect().Descriptor(), nil, itself)
	if err != nil {
		t.Fatal(err)
	}
	protoargstest.SameOnTheWire(t, got, want)
}

// TestEncodeKeepsNothing changes the arguments after the call.
func TestEncodeKeepsNothing(t *testing.T) {
	t.Parallel()
	item, data := &testv1.Item{Name: "x"}, []byte{1, 2}
	got, err := request("test.kinds.mirror", (&testv1.Optionals{}).ProtoReflect().Descriptor(), nil, map[string]any{"item": item, "bytes_value": data})
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
	plan := encode.NewPlan("test.kinds.mirror", (&testv1.Lists{}).ProtoReflect().Descriptor(), nil).Limit(someLimit)
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
	plan := encode.NewPlan("test.kinds.place", (&testv1.PlaceRequest{}).ProtoReflect().Descriptor(), nil)
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
	plan := encode.NewPlan("test.kinds.mirror", (&testv1.Optionals{}).ProtoReflect().Descriptor(), nil)
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

// request converts args to a request.
func request(rpc string, desc protoreflect.MessageDescriptor, types protoargs.Resolver, args map[string]any) (proto.Message, error) {
	return encode.NewPlan(rpc, desc, types).Encode(args)
}

// TestEncodeGivesTheGeneratedType checks that only the linked descriptor has that type.
func TestEncodeGivesTheGeneratedType(t *testing.T) {
	t.Parallel()
	args := map[string]any{"username": "admin", "password": "secret"}
	got, err := request("test.kinds.sign_in", (&testv1.SignInRequest{}).ProtoReflect().Descriptor(), nil, args)
	if err != nil {
		t.Fatal(err)
	}
	if request, ok := got.(*testv1.SignInRequest); !ok || request.GetUsername() != "admin" || request.GetPassword() != "secret" {
		t.Errorf("linked in: got %T %v", got, got)
	}
	find, types := protoargstest.Foreign(t)
	for _, resolver := range []protoargs.Resolver{nil, types} {
		got, err = request("test.kinds.sign_in", find("onecall.test.v1.SignInRequest"), resolver, args)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := got.(*dynamicpb.Message); !ok {
			t.Errorf("from elsewhere: got %T", got)
		}
	}
}
