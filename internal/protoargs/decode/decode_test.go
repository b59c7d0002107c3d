package decode_test

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/protoargs/decode"
	"github.com/onecall-dev/onecall/internal/protoargs/protoargstest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestToMap(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)
	long := &durationpb.Duration{Seconds: 315576000000}
	for name, test := range map[string]struct {
		message proto.Message
		want    map[string]any
	}{
		"nil": {nil, nil},
		"scalars without presence are always there": {&testv1.Scalars{Int32Value: 7}, map[string]any{
			"double_value": 0.0, "float_value": float32(0), "int32_value": int32(7), "int64_value": int64(0), "uint32_value": uint32(0), "uint64_value": uint64(0),
			"sint32_value": int32(0), "sint64_value": int64(0), "fixed32_value": uint32(0), "fixed64_value": uint64(0), "sfixed32_value": int32(0), "sfixed64_value": int64(0),
			"bool_value": false, "string_value": "", "bytes_value": []byte{},
		}},
		"fields with presence when they are set": {&testv1.Optionals{Int32Value: new(int32(0)), Item: &testv1.Item{}}, map[string]any{
			"int32_value": int32(0), "item": map[string]any{"name": "", "price": int64(0)},
		}},
		"a member of a oneof": {&testv1.Choice{Kind: &testv1.Choice_Flag{}}, map[string]any{"flag": false}},
		"lists and maps": {&testv1.Node{Children: []*testv1.Node{}, Named: map[string]*testv1.Node{"a": {Name: "b"}}}, map[string]any{
			"name": "", "children": []any{}, "named": map[string]any{"a": map[string]any{"name": "b", "children": []any{}, "named": map[string]any{}}},
		}},
		"enums":           {&testv1.Optionals{Mood: testv1.Mood_MOOD_CALM.Enum()}, map[string]any{"mood": "MOOD_CALM"}},
		"undeclared ones": {&testv1.Optionals{Mood: testv1.Mood(99).Enum()}, map[string]any{"mood": int32(99)}},
		"a time":          {&testv1.Choice{Kind: &testv1.Choice_At{At: timestamppb.New(now)}}, map[string]any{"at": now}},
		"no time":         {&testv1.Choice{Kind: &testv1.Choice_At{At: &timestamppb.Timestamp{Nanos: -1}}}, map[string]any{"at": map[string]any{"seconds": int64(0), "nanos": int32(-1)}}},
		"a wrapper":       {&testv1.Choice{Kind: &testv1.Choice_Wrapped{Wrapped: wrapperspb.String("x")}}, map[string]any{"wrapped": "x"}},
		"null":            {&testv1.Choice{Kind: &testv1.Choice_Json{Json: structpb.NewNullValue()}}, map[string]any{"json": nil}},
		"an empty Value":  {&testv1.Choice{Kind: &testv1.Choice_Json{Json: &structpb.Value{}}}, map[string]any{"json": nil}},
		"an empty one":    {&testv1.Choice{Kind: &testv1.Choice_Nothing{Nothing: &emptypb.Empty{}}}, map[string]any{"nothing": map[string]any{}}},
		"well-known": {
			&testv1.WellKnown{
				Duration: durationpb.New(-time.Minute), FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"a"}},
				ListValue:  &structpb.ListValue{Values: []*structpb.Value{structpb.NewBoolValue(true), structpb.NewNumberValue(1)}},
				Object:     &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStringValue("b")}},
				Anything:   protoargstest.AnyOf(t, &testv1.Item{Name: "x"}),
				Anythings:  []*anypb.Any{protoargstest.AnyOf(t, long), {TypeUrl: "x/y", Value: []byte{1}}, {TypeUrl: "x/onecall.test.v1.Item", Value: []byte{0xff}}, {}},
				Timestamps: []*timestamppb.Timestamp{timestamppb.New(now)},
				Numbers:    []*wrapperspb.Int32Value{wrapperspb.Int32(1)},
			},
			map[string]any{
				"duration": -time.Minute, "field_mask": []string{"a"}, "list_value": []any{true, 1.0}, "object": map[string]any{"a": "b"},
				"anything": map[string]any{"@type": "type.googleapis.com/onecall.test.v1.Item", "name": "x", "price": int64(0)},
				"anythings": []any{
					map[string]any{"@type": "type.googleapis.com/google.protobuf.Duration", "value": map[string]any{"seconds": int64(315576000000), "nanos": int32(0)}},
					map[string]any{"@type": "x/y", "value": []byte{1}},
					map[string]any{"@type": "x/onecall.test.v1.Item", "value": []byte{0xff}},
					map[string]any{"@type": "", "value": []byte{}},
				},
				"timestamps": []any{now}, "values": []any{}, "numbers": []any{int32(1)},
			},
		},
		"maps by kind of key": {
			&testv1.Maps{
				Int32Keys: map[int32][]byte{1: {2}}, Int64Keys: map[int64]bool{1: true}, Uint32Keys: map[uint32]float64{1: 2}, Uint64Keys: map[uint64]float32{1: 2},
				BoolKeys: map[bool]*testv1.Item{true: {}}, Sint64Keys: map[int64]testv1.Mood{1: 2},
			},
			map[string]any{
				"string_keys": map[string]any{}, "int32_keys": map[int32]any{1: []byte{2}}, "int64_keys": map[int64]any{1: true}, "uint32_keys": map[uint32]any{1: 2.0},
				"uint64_keys": map[uint64]any{1: float32(2)}, "sint32_keys": map[int32]any{}, "sint64_keys": map[int64]any{1: "MOOD_CURIOUS"},
				"fixed32_keys": map[uint32]any{}, "fixed64_keys": map[uint64]any{}, "sfixed32_keys": map[int32]any{}, "sfixed64_keys": map[int64]any{},
				"bool_keys": map[string]any{"true": map[string]any{"name": "", "price": int64(0)}},
				"times":     map[string]any{}, "values": map[string]any{}, "moods": map[string]any{}, "items": map[string]any{},
			},
		},
		"a well-known reply is its fields": {wrapperspb.String("x"), map[string]any{"value": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decode.Map(test.message, nil); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%s:\ngot  %#v\nwant %#v", name, got, test.want)
			}
		})
	}
}

// TestToMapOfManyAnys checks the bound on copies for Anys inside Anys.
func TestToMapOfManyAnys(t *testing.T) {
	t.Parallel()
	inside := protoargstest.AnyOf(t, &testv1.Item{})
	for range 1000 {
		inside = protoargstest.AnyOf(t, inside)
	}
	levels := 0
	got := decode.Map(&testv1.WellKnown{Anything: inside}, nil)["anything"]
	for at, ok := got.(map[string]any); ok; at, ok = at["value"].(map[string]any) {
		levels++
	}
	if levels < protoargs.MaxDepth || levels > protoargs.MaxDepth+2 {
		t.Errorf("%d levels of Any were unpacked", levels)
	}
}

// Types that replies are decoded into.
type (
	namedString string
	namedByte   byte
	namedBytes  []namedByte
	namedFlag   bool
	anyArgs     map[string]any
	itemOut     struct {
		Name  string
		Price uint16 `json:"price"`
	}
	placeOut struct {
		ID    int32
		Items []itemOut
		Other chan int
	}
	base struct {
		Name string
		Kept int
	}
	nodeOut struct {
		*Embedded
		base

		Next     *nodeOut
		Children []*nodeOut
		Named    map[namedString]*testv1.Node
	}
	Embedded     struct{ Unrelated int }
	optionalsOut struct {
		Int32Value  *int8
		Uint64Value any
		FloatValue  float64
		DoubleValue *float32
		BoolValue   namedFlag
		StringValue namedString
		BytesValue  namedBytes
		Mood        testv1.Mood
		Item        testv1.Item
	}
	wellOut struct {
		Timestamp     time.Time
		Duration      *time.Duration
		Anything      itemOut
		Object        map[string]any
		Value         any
		ListValue     []any
		FieldMask     []namedString
		Empty         struct{}
		StringWrapper *string
		Int32Wrapper  int64
		BytesWrapper  [2]byte
		Timestamps    []*time.Time
		Anythings     []*testv1.Item
		Values        []*string
		Numbers       []*wrapperspb.Int32Value
		BoolWrapper   *wrapperspb.BoolValue
	}
)

func TestDecode(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)
	place := &testv1.PlaceResponse{Id: 7, Items: []*testv1.Item{{Name: "x", Price: 8}}}
	whole := map[string]any{"id": int64(7), "items": []any{map[string]any{"name": "x", "price": int64(8)}}}
	find, types := protoargstest.Foreign(t)
	foreignPlace := dynamicpb.NewMessage(find("onecall.test.v1.PlaceResponse"))
	data, err := proto.Marshal(place)
	if err != nil {
		t.Fatal(err)
	}
	if err := (proto.UnmarshalOptions{Resolver: types}).Unmarshal(data, foreignPlace); err != nil {
		t.Fatal(err)
	}
	oldMap := map[string]any{"old": 1}
	for name, test := range map[string]struct {
		message proto.Message
		dest    any
		want    any
	}{
		"a map":                    {place, &map[string]any{"old": 1}, &whole},
		"a map itself":             {place, oldMap, whole},
		"a named map":              {place, &anyArgs{}, new(anyArgs(whole))},
		"a narrow map":             {&testv1.Item{}, &map[namedString]any{}, &map[namedString]any{"name": "", "price": int64(0)}},
		"a map of numbers":         {&testv1.CountResponse{Count: 7}, &map[string]uint8{}, &map[string]uint8{"count": 7}},
		"any":                      {place, new(any), new(any(whole))},
		"a struct":                 {place, &placeOut{ID: 1, Items: []itemOut{{}, {}}}, &placeOut{ID: 7, Items: []itemOut{{"x", 8}}}},
		"a pointer to a struct":    {place, new(*placeOut), new(&placeOut{ID: 7, Items: []itemOut{{"x", 8}}})},
		"the same message":         {place, &testv1.PlaceResponse{Id: 9, Items: []*testv1.Item{{}}}, place},
		"from a foreign message":   {foreignPlace, &testv1.PlaceResponse{Id: 9}, place},
		"a foreign struct":         {foreignPlace, &placeOut{}, &placeOut{ID: 7, Items: []itemOut{{"x", 8}}}},
		"a pointer to a message":   {place, new(*testv1.PlaceResponse), &place},
		"the only field's message": {&testv1.MirrorResponse{Kinds: &testv1.Kinds{Mood: 1}}, &testv1.Kinds{Mood: 2}, &testv1.Kinds{Mood: 1}},
		"a scalar":                 {&testv1.CountResponse{Count: 7}, new(int64), new(int64(7))},
		"a smaller scalar":         {&testv1.CountResponse{Count: -128}, new(int8), new(int8(-128))},
		"an unsigned one":          {&testv1.CountResponse{Count: 7}, new(uint), new(uint(7))},
		"a float that is exact":    {&testv1.CountResponse{Count: 1 << 53}, new(float64), new(float64(1 << 53))},
		"a pointer to a scalar":    {&testv1.CountResponse{Count: 7}, new(*int), new(new(7))},
		"a bool":                   {&testv1.SignInResponse{Valid: true}, new(bool), new(true)},
		"a named bool":             {&testv1.SignInResponse{Valid: true}, new(namedFlag), new(namedFlag(true))},
		"a slice":                  {&testv1.CountRequest{Words: []string{"a", "b"}}, &[]namedString{"c"}, &[]namedString{"a", "b"}},
		"an array":                 {&testv1.CountRequest{Words: []string{"a", "b"}}, new([2]string), &[2]string{"a", "b"}},
		"a slice of any":           {&testv1.CountRequest{Words: []string{"a"}}, new([]any), &[]any{"a"}},
		"a string of a wrapper":    {wrapperspb.String("x"), new(string), new("x")},
		"a time":                   {timestamppb.New(now), new(time.Time), &now},
		"a duration":               {durationpb.New(time.Minute), new(time.Duration), new(time.Minute)},
		"a Value":                  {structpb.NewStringValue("x"), new(string), new("x")},
		"a list of JSON":           {&structpb.ListValue{Values: []*structpb.Value{structpb.NewNumberValue(1)}}, new([]any), &[]any{1.0}},
		"what embeds": {
			&testv1.Node{Name: "a", Next: &testv1.Node{Name: "b"}, Named: map[string]*testv1.Node{"c": {Name: "d"}}},
			&nodeOut{base: base{Kept: 7}, Next: &nodeOut{base: base{Kept: 8}}, Children: []*nodeOut{{}}},
			&nodeOut{
				base: base{"a", 7}, Next: &nodeOut{base: base{Name: "b"}, Children: []*nodeOut{}, Named: map[namedString]*testv1.Node{}},
				Children: []*nodeOut{}, Named: map[namedString]*testv1.Node{"c": {Name: "d"}},
			},
		},
		"narrower and wider types": {
			&testv1.Optionals{
				Int32Value: new(int32(-7)), Uint64Value: new(uint64(math.MaxUint64)), FloatValue: new(float32(0.1)), DoubleValue: new(0.5), BoolValue: new(true),
				StringValue: new("x"), BytesValue: []byte{1}, Mood: testv1.Mood(99).Enum(), Item: &testv1.Item{Name: "x"},
			},
			&optionalsOut{},
			&optionalsOut{
				Int32Value: new(int8(-7)), Uint64Value: uint64(math.MaxUint64), FloatValue: float64(float32(0.1)), DoubleValue: new(float32(0.5)), BoolValue: true,
				StringValue: "x", BytesValue: namedBytes{1}, Mood: 99, Item: testv1.Item{Name: "x"},
			},
		},
		"fields that are left out become zero": {&testv1.Optionals{}, &optionalsOut{Int32Value: new(int8(1)), Uint64Value: 1, BoolValue: true, BytesValue: namedBytes{1}}, &optionalsOut{}},
		"well-known": {
			&testv1.WellKnown{
				Timestamp: timestamppb.New(now), Duration: durationpb.New(time.Minute), Anything: protoargstest.AnyOf(t, &testv1.Item{Name: "x", Price: 7}),
				Object: &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStringValue("b")}}, Value: structpb.NewNumberValue(1),
				ListValue: &structpb.ListValue{Values: []*structpb.Value{structpb.NewNullValue()}}, FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"a"}},
				Empty: &emptypb.Empty{}, StringWrapper: wrapperspb.String("x"), Int32Wrapper: wrapperspb.Int32(7), BytesWrapper: wrapperspb.Bytes([]byte{1, 2}),
				Timestamps: []*timestamppb.Timestamp{timestamppb.New(now)}, Anythings: []*anypb.Any{protoargstest.AnyOf(t, &testv1.Item{Name: "x"})},
				Values: []*structpb.Value{structpb.NewStringValue("x"), structpb.NewNullValue()}, Numbers: []*wrapperspb.Int32Value{wrapperspb.Int32(1)}, BoolWrapper: wrapperspb.Bool(true),
			},
			&wellOut{},
			&wellOut{
				Timestamp: now, Duration: new(time.Minute), Anything: itemOut{"x", 7}, Object: map[string]any{"a": "b"}, Value: 1.0, ListValue: []any{nil},
				FieldMask: []namedString{"a"}, StringWrapper: new("x"), Int32Wrapper: 7, BytesWrapper: [2]byte{1, 2}, Timestamps: []*time.Time{&now},
				Anythings: []*testv1.Item{{Name: "x"}}, Values: []*string{new("x"), nil}, Numbers: []*wrapperspb.Int32Value{wrapperspb.Int32(1)}, BoolWrapper: wrapperspb.Bool(true),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := decode.Into(test.message, nil, test.dest); err != nil {
				t.Fatal(err)
			}
			if !same(reflect.ValueOf(test.dest), reflect.ValueOf(test.want)) {
				t.Errorf("got  %+v\nwant %+v", test.dest, test.want)
			}
		})
	}
}

// same compares like reflect.DeepEqual, but messages like proto.Equal.
func same(a, b reflect.Value) bool {
	if a.Kind() != b.Kind() || a.IsValid() && a.Type() != b.Type() {
		return false
	}
	if equal, ok := sameMessage(a, b); ok {
		return equal
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		return a.IsNil() == b.IsNil() && (a.IsNil() || same(a.Elem(), b.Elem()))
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for each := a.MapRange(); each.Next(); {
			if other := b.MapIndex(each.Key()); !other.IsValid() || !same(each.Value(), other) {
				return false
			}
		}
		return true
	default:
		return a.Equal(b)
	}
}

// sameMessage compares messages and times. ok is false for all other values.
func sameMessage(a, b reflect.Value) (equal, ok bool) {
	if !a.IsValid() || !a.CanInterface() {
		return false, false
	}
	if one, ok := reflect.TypeAssert[time.Time](a); ok {
		return one.Equal(b.Interface().(time.Time)), true
	}
	if a.CanAddr() && a.Kind() == reflect.Struct {
		a, b = a.Addr(), b.Addr()
	}
	one, ok := reflect.TypeAssert[proto.Message](a)
	if !ok {
		return false, false
	}
	return proto.Equal(one, b.Interface().(proto.Message)), true
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	count := &testv1.CountResponse{Count: -1}
	type pointers *pointers
	type embeds struct {
		*base
	}
	nothing := func(field any) proto.Message {
		return &testv1.WellKnown{Values: []*structpb.Value{field.(*structpb.Value)}}
	}
	for name, test := range map[string]struct {
		message proto.Message
		dest    any
		want    string
	}{
		"nil":                      {count, nil, "reply: nothing can be decoded from or into nil"},
		"a nil reply":              {nil, new(int), "nothing can be decoded from or into nil"},
		"a nil pointer":            {count, (*int)(nil), "the *int is nil"},
		"a nil message":            {count, (*testv1.CountResponse)(nil), "cannot go into a *testv1.CountResponse that is nil"},
		"an empty dynamic message": {count, &dynamicpb.Message{}, "cannot go into a *dynamicpb.Message that is nil"},
		"a struct around nothing":  {count, struct{ proto.Message }{}, "that is nil: give a message"},
		"a nil map":                {count, map[string]any(nil), "map[string]any cannot be written to"},
		"no pointer":               {count, 7, "int cannot be written to: give a pointer"},
		"a struct by value":        {count, placeOut{}, "decode_test.placeOut cannot be written to"},
		"another message":          {count, &testv1.Item{}, "is a message onecall.test.v1.CountResponse and does not go into a onecall.test.v1.Item"},
		"one value of two fields":  {&testv1.Item{}, new(string), "has the fields name and price, of which one string holds only one"},
		"one value of no field":    {&emptypb.Empty{}, new(string), "has no fields, so nothing of it goes into string"},
		"a channel":                {count, new(chan int), "count is int64 and does not go into chan int"},
		"a function":               {count, new(func()), "does not go into func()"},
		"an interface":             {count, new(error), "map[string]any and does not go into error"},
		"a complex number":         {count, new(complex128), "does not go into complex128"},
		"an uintptr":               {count, new(uintptr), "does not go into uintptr"},
		"the wrong sign":           {count, new(uint64), "reply: count is a number -1 that uint64 does not hold"},
		"an overflow":              {&testv1.CountResponse{Count: 128}, new(int8), "count is a number 128 that int8 does not hold"},
		"a rounded integer":        {&testv1.CountResponse{Count: 1<<53 + 1}, new(float64), "count is a number 9007199254740993 that float64 does not hold exactly"},
		"an int in a string":       {count, new(string), "count is int64 and does not go into string"},
		"an int in a bool":         {count, new(bool), "does not go into bool"},
		"an int in a duration":     {count, new(time.Duration), "does not go into time.Duration"},
		"an int in a json.Number":  {count, new(json.Number), "does not go into json.Number"},
		"an int in an enum":        {count, new(testv1.Mood), "does not go into testv1.Mood"},
		"a pointer to itself":      {count, new(pointers), "count goes into more than 16 pointers"},
		"a bool in an int":         {&testv1.SignInResponse{Valid: true}, new(int), "valid is bool and does not go into int"},
		"a list in a string":       {&testv1.CountRequest{Words: []string{"a"}}, new(string), "words is repeated and does not go into string"},
		"a list in an array":       {&testv1.CountRequest{Words: []string{"a"}}, new([2]string), "words has 1 elements and does not go into [2]string"},
		"a list of ints":           {&testv1.CountRequest{Words: []string{"a"}}, new([]int), "words[0] is string and does not go into int"},
		"a double in a float32":    {&testv1.Optionals{DoubleValue: new(0.1)}, &struct{ DoubleValue float32 }{}, "double_value is a number 0.1 that float32 does not hold exactly"},
		"a double in an int":       {&testv1.Optionals{DoubleValue: new(1.0)}, &struct{ DoubleValue int }{}, "double_value is float64 and does not go into int"},
		"bytes in a string":        {&testv1.Optionals{BytesValue: []byte("x")}, &struct{ BytesValue string }{}, "bytes_value is []byte and does not go into string"},
		"bytes in an array":        {&testv1.Optionals{BytesValue: []byte("x")}, &struct{ BytesValue [2]byte }{}, "has 1 bytes and does not go into [2]uint8"},
		"an enum without a name":   {&testv1.Optionals{Mood: testv1.Mood(99).Enum()}, &struct{ Mood string }{}, "mood is a number 99 that onecall.test.v1.Mood has no name for"},
		"an enum in another":       {&testv1.Optionals{Mood: testv1.Mood(1).Enum()}, &struct{ Mood testv1.Kinds_Inner_State }{}, "mood is an enum onecall.test.v1.Mood and does not go into testv1.Kinds_Inner_State"},
		"a message in an int":      {&testv1.Optionals{Item: &testv1.Item{}}, &struct{ Item int }{}, "item is a message onecall.test.v1.Item and does not go into int"},
		"a message in another":     {&testv1.Optionals{Item: &testv1.Item{}}, &struct{ Item *testv1.Node }{}, "item is a message onecall.test.v1.Item and does not go into a onecall.test.v1.Node"},
		"a message in a time":      {&testv1.Optionals{Item: &testv1.Item{}}, &struct{ Item time.Time }{}, "does not go into time.Time"},
		"a deep one":               {&testv1.PlaceResponse{Items: []*testv1.Item{{}, {}, {Price: -1}}}, &placeOut{}, "items[2].price is a number -1 that uint16 does not hold"},
		"a map's value":            {&testv1.Maps{StringKeys: map[string]string{"a": "b"}}, &struct{ StringKeys map[string]int }{}, `string_keys["a"] is string and does not go into int`},
		"a map's key":              {&testv1.Maps{Int32Keys: map[int32][]byte{-1: nil}}, &struct{ Int32Keys map[uint]any }{}, `int32_keys[-1] is a number -1 that uint does not hold`},
		"a map's key as text":      {&testv1.Maps{Int32Keys: map[int32][]byte{-1: nil}}, &struct{ Int32Keys map[string]any }{}, `int32_keys[-1] is int32 and does not go into string`},
		"a pointer as a key":       {&testv1.Maps{Int32Keys: map[int32][]byte{-1: nil}}, &struct{ Int32Keys map[*int32]any }{}, "is a key and does not go into *int32"},
		"a map in a slice":         {&testv1.Maps{Int32Keys: map[int32][]byte{-1: nil}}, &struct{ Int32Keys []any }{}, "int32_keys is a map and does not go into []any"},
		"a struct of other fields": {&testv1.Item{}, &struct{ Nome string }{}, "has the fields name, price, and struct { Nome string } has none of them"},
		"the same letters": {&testv1.Item{Name: "x"}, &struct {
			Name  string
			PRice int64
		}{}, "has no field p_rice, and has price: write that in the json tag of struct"},
		"a JSON name": {
			&testv1.Optionals{},
			&struct {
				BoolValue bool
				IntValue  int `json:"int32Value"`
			}{},
			"has no field int32Value, which is the JSON name of int32_value",
		},
		"what embeds a pointer": {&testv1.Item{}, &embeds{}, "lies in an embedded pointer that is not exported"},
		"a time in a string":    {timestamppb.Now(), new(string), "time.Time and does not go into string"},
		"a time out of range":   {&timestamppb.Timestamp{Nanos: -1}, new(time.Time), "does not go into time.Time"},
		"a long duration":       {&durationpb.Duration{Seconds: 315576000000}, new(time.Duration), "does not go into time.Duration"},
		"a duration in an int":  {durationpb.New(1), new(int64), "time.Duration and does not go into int64"},
		"null in a string":      {nothing(structpb.NewNullValue()), &struct{ Values []string }{}, "values[0] is null and does not go into string"},
		"a number in a string":  {nothing(structpb.NewNumberValue(1)), &struct{ Values []string }{}, "values[0] is float64 and does not go into string"},
		"an unknown Any":        {&testv1.WellKnown{Anything: &anypb.Any{TypeUrl: "x/y"}}, &struct{ Anything itemOut }{}, "anything is an Any of a type that is not known here"},
		"another Any":           {&testv1.WellKnown{Anything: protoargstest.AnyOf(t, &testv1.Node{})}, &struct{ Anything *testv1.Item }{}, "does not go into a onecall.test.v1.Item"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := decode.Into(test.message, nil, test.dest)
			var bad *decode.Error
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestDecodeTellsNoSecret decodes secrets into destinations that cannot hold them.
func TestDecodeTellsNoSecret(t *testing.T) {
	t.Parallel()
	secrets := &testv1.Secrets{
		Word: "hunter2", Pin: 70727, Codes: []string{"hunter2"}, Answers: map[string]int32{"hunter2": 70727},
		Vault: &testv1.Item{Name: "hunter2", Price: 70727}, Mood: testv1.Mood(70727).Enum(),
	}
	for _, dest := range []any{
		&struct{ Word int }{}, &struct{ Pin int8 }{}, &struct{ Codes []int }{}, &struct{ Answers map[string]int8 }{}, &struct{ Answers map[int]int }{},
		&struct{ Vault struct{ Price int8 } }{}, &struct{ Mood string }{}, &struct{ Mood int8 }{}, &struct{ Vault string }{},
	} {
		err := decode.Into(&testv1.PlaceRequest{Secrets: secrets}, nil, &map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		err = decode.Into(secrets, nil, dest)
		if err == nil || strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "70727") {
			t.Errorf("%T: %v", dest, err)
		}
	}
}

// TestErrorsShowTheRest checks that fields after a redacted field are shown.
func TestErrorsShowTheRest(t *testing.T) {
	t.Parallel()
	err := decode.Into(&testv1.Kinds{Secrets: &testv1.Secrets{Pin: 70727}, Mood: 99}, nil, &struct {
		Secrets struct{ Pin int }
		Mood    string
	}{})
	if err == nil || !strings.Contains(err.Error(), "mood is a number 99") {
		t.Error(err)
	}
}
