package encode_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/protoargs/protoargstest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// refusal returns the error of arguments that must be refused. It also checks what is true for
// all such errors.
func refusal(tb testing.TB, request proto.Message, given map[string]any) *encode.ArgumentError {
	tb.Helper()
	got, err := encode.NewPlan("test.kinds.rpc", request.ProtoReflect().Descriptor(), nil).Limit(someLimit).Encode(given)
	var bad *encode.ArgumentError
	if !errors.As(err, &bad) {
		tb.Fatalf("got %v and %v, want an *ArgumentError", got, err)
	}
	if got != nil {
		tb.Errorf("there is a request as well as an error: %v", got)
	}
	protoargstest.FitToPrint(tb, bad)
	return bad
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	place := anyArgs{"customer_name": "adam", "mood": 0, "address": anyArgs{"street": "x", "code": "y"}}
	with := func(name string, v any) map[string]any {
		out := map[string]any{name: v}
		for k, v := range place {
			if k != name {
				out[k] = v
			}
		}
		return out
	}
	optional := func(name string, v any) (proto.Message, map[string]any) {
		return &testv1.Optionals{}, map[string]any{name: v}
	}
	type one struct {
		request proto.Message
		args    map[string]any
		path    string
		kind    encode.Kind
		text    string
	}
	of := func(request proto.Message, given map[string]any, path string, kind encode.Kind, text string) one {
		return one{request, given, path, kind, text}
	}
	order := &testv1.PlaceRequest{}
	ofOptional := func(name string, v any, kind encode.Kind, text string) one {
		request, given := optional(name, v)
		return one{request, given, name, kind, text}
	}
	var typedNil *testv1.Item
	var nilInt *int
	var loop any
	loop = &loop
	for name, test := range map[string]one{
		"a missing parameter":          of(&testv1.SignInRequest{}, anyArgs{"username": "x"}, "password", encode.Missing, "is missing: it takes a string"),
		"a missing message":            of(order, anyArgs{"customer_name": "x", "mood": 1}, "address", encode.Missing, "is missing: it takes the fields of onecall.test.v1.Address as framework.Args or a struct"),
		"an unknown name":              of(order, with("zebra", 1), "zebra", encode.Unknown, "is no parameter: there are customer_name, items, "),
		"a misspelt name":              of(order, with("lables", 1), "lables", encode.Unknown, "is no parameter: did you mean labels?"),
		"a JSON name":                  of(&testv1.Optionals{}, anyArgs{"int32Value": 1}, "int32Value", encode.Unknown, "is no parameter but the JSON name of one: write int32_value"),
		"an empty name":                of(order, with("", 1), `""`, encode.Unknown, "is no parameter"),
		"a name of control characters": of(order, with("a\nb\xff", 1), `"a\nb\xff"`, encode.Unknown, "is no parameter"),
		"a name of a megabyte":         of(order, with(strings.Repeat("é", 1<<20), 1), `"`+strings.Repeat("é", 30)+`…"`, encode.Unknown, "is no parameter"),
		"a name where there is none":   of(&testv1.Choice{}, anyArgs{"nothing": anyArgs{"x": 1}}, "nothing.x", encode.Unknown, "is no parameter: there are none"),

		"a nested missing parameter": of(order, with("items", []any{anyArgs{"name": "a", "price": 1}, good{}, anyArgs{"name": "c"}}), "items[2].price", encode.Missing, "is missing"),
		"a nested unknown name":      of(order, with("address", anyArgs{"street": "x", "code": "y", "land": 1}), "address.land", encode.Unknown, "is no parameter"),
		"a nested wrong type":        of(&testv1.Node{}, anyArgs{"name": "a", "named": anyArgs{"b": anyArgs{"name": 1}}}, `named["b"].name`, encode.WrongType, "takes a string, and int was given"),
		"a wrong element":            of(&testv1.Lists{}, anyArgs{"int32_values": []any{1, "2"}}, "int32_values[1]", encode.WrongType, "takes an integer (int32), and string was given"),

		"a string for an int32":      ofOptional("int32_value", "7", encode.WrongType, "takes an integer (int32), and string was given"),
		"an int for a string":        ofOptional("string_value", 7, encode.WrongType, "takes a string, and int was given"),
		"a json.Number for a string": ofOptional("string_value", json.Number("7"), encode.WrongType, "json.Number was given"),
		"bytes for a string":         ofOptional("string_value", []byte("x"), encode.WrongType, "[]uint8 was given"),
		"a string for bytes":         ofOptional("bytes_value", "x", encode.WrongType, "takes a []byte, and string was given"),
		"a slice of ints for bytes":  ofOptional("bytes_value", []int{1}, encode.WrongType, "takes a []byte, and []int was given"),
		"an int for a bool":          ofOptional("bool_value", 1, encode.WrongType, "takes a bool, and int was given"),
		"a bool for an int":          ofOptional("int64_value", true, encode.WrongType, "bool was given"),
		"a string for a double":      ofOptional("double_value", "nan", encode.WrongType, "takes a number (double), and string was given"),
		"a duration for an int64":    ofOptional("int64_value", time.Second, encode.WrongType, "a time.Duration was given: say the unit"),
		"a channel":                  ofOptional("int32_value", make(chan int), encode.WrongType, "chan int was given"),
		"a function":                 ofOptional("string_value", strings.ToUpper, encode.WrongType, "func(string) string was given"),
		"a complex number":           ofOptional("double_value", 1i, encode.WrongType, "complex128 was given"),
		"an uintptr":                 ofOptional("uint64_value", uintptr(1), encode.WrongType, "uintptr was given"),
		"an unsafe pointer":          ofOptional("uint64_value", unsafe.Pointer(nilInt), encode.WrongType, "unsafe.Pointer was given"),
		"a big.Int":                  ofOptional("int64_value", big.NewInt(1), encode.WrongType, "big.Int was given"),
		"a struct with long tags": ofOptional("int64_value", struct {
			A int `json:"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`
		}{}, encode.WrongType, "… was given"),
		"a channel for a message":           ofOptional("item", make(chan int), encode.WrongType, "chan int was given"),
		"a channel for a list":              of(&testv1.Lists{}, anyArgs{"items": make(chan int)}, "items", encode.WrongType, "takes a slice, of which each element is the fields of onecall.test.v1.Item"),
		"a string for a list":               of(&testv1.Lists{}, anyArgs{"string_values": "x"}, "string_values", encode.WrongType, "takes a slice, of which each element is a string, and string was given"),
		"a slice for a map":                 of(order, with("labels", []string{"a"}), "labels", encode.WrongType, "takes a map with keys of string, of which each value is a string"),
		"a map for a list":                  of(&testv1.Lists{}, anyArgs{"string_values": anyArgs{}}, "string_values", encode.WrongType, "was given"),
		"a map of other keys for a message": ofOptional("item", map[int]any{}, encode.WrongType, "map[int]any was given"),
		"a message by value":                ofOptional("item", testv1.Item{}, encode.WrongType, "by value: give a pointer to it"),
		"another message":                   ofOptional("item", &testv1.Node{}, encode.WrongType, "a message onecall.test.v1.Node was given"),
		"a time for a message":              ofOptional("item", time.Now(), encode.WrongType, "time.Time was given"),
		"a string for a time":               of(&testv1.Choice{}, anyArgs{"at": "2026-01-01T00:00:00Z"}, "at", encode.WrongType, "takes a time.Time, and string was given"),
		"a duration for a time":             of(&testv1.Choice{}, anyArgs{"at": time.Second}, "at", encode.WrongType, "takes a time.Time, and time.Duration was given"),
		"a number for a wrapper":            of(&testv1.Choice{}, anyArgs{"wrapped": 1}, "wrapped", encode.WrongType, "takes a string, and int was given"),
		"a channel in JSON":                 of(&testv1.Choice{}, anyArgs{"json": anyArgs{"a": []any{1, make(chan int)}}}, `json["a"][1]`, encode.WrongType, "takes what JSON can say"),
		"bytes in JSON":                     of(&testv1.Choice{}, anyArgs{"json": []byte{1}}, "json", encode.WrongType, "takes what JSON can say"),
		"a json.Number that is none":        ofOptional("int64_value", json.Number("0x10"), encode.WrongType, "json.Number was given"),
		"an infinite json.Number":           ofOptional("double_value", json.Number("Inf"), encode.WrongType, "json.Number was given"),

		"too much for an int32":        ofOptional("int32_value", int64(math.MaxInt32)+1, encode.OutOfRange, "is int32, and the number 2147483648 does not fit"),
		"too little for an int32":      ofOptional("sfixed32_value", int64(math.MinInt32)-1, encode.OutOfRange, "the number -2147483649"),
		"too much for an int64":        ofOptional("int64_value", uint64(math.MaxInt64)+1, encode.OutOfRange, "9223372036854775808"),
		"less than zero, unsigned":     ofOptional("uint32_value", -1, encode.OutOfRange, "the number -1 does not fit"),
		"less than zero, unsigned 64":  ofOptional("fixed64_value", int64(-1), encode.OutOfRange, "the number -1 does not fit"),
		"too much for an uint32":       ofOptional("fixed32_value", uint64(math.MaxUint32)+1, encode.OutOfRange, "4294967296"),
		"too much for an uint64":       ofOptional("uint64_value", json.Number("18446744073709551616"), encode.OutOfRange, "18446744073709551616"),
		"a huge exponent":              ofOptional("int64_value", json.Number("1e999999999999999999999"), encode.OutOfRange, "1e99999999999"),
		"a long number":                ofOptional("int64_value", json.Number(strings.Repeat("9", 2000)), encode.OutOfRange, `"9999999999999999999999999999999999999999…" does not fit`),
		"too much for a float":         ofOptional("float_value", 1e39, encode.OutOfRange, "1e+39"),
		"too little for a float":       ofOptional("float_value", 1e-50, encode.OutOfRange, "1e-50"),
		"too much for a double":        ofOptional("double_value", json.Number("1e400"), encode.OutOfRange, "1e400"),
		"too little for a double":      ofOptional("double_value", json.Number("0.1e-400"), encode.OutOfRange, "0.1e-400"),
		"a time before the year 1":     of(&testv1.Choice{}, anyArgs{"at": time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC)}, "at", encode.OutOfRange, "begins with the year 1"),
		"a time after 9999":            of(&testv1.Choice{}, anyArgs{"at": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "at", encode.OutOfRange, "ends with 9999"),
		"nanoseconds out of range":     of(&testv1.Choice{}, anyArgs{"at": anyArgs{"seconds": 1, "nanos": -1}}, "at", encode.OutOfRange, "does not hold"),
		"a fraction for an int":        ofOptional("int32_value", 1.5, encode.Inexact, "does not hold the number 1.5 exactly"),
		"NaN for an int":               ofOptional("int32_value", math.NaN(), encode.Inexact, "the number NaN"),
		"infinity for an int":          ofOptional("int64_value", math.Inf(1), encode.Inexact, "the number +Inf"),
		"2^53 as a float for an int":   ofOptional("int64_value", float64(1<<53), encode.Inexact, "9.007199254740992e+15"),
		"a fraction as json.Number":    ofOptional("int64_value", json.Number("10.01e1"), encode.Inexact, "10.01e1"),
		"2^53+1 for a double":          ofOptional("double_value", int64(1<<53+1), encode.Inexact, "9007199254740993"),
		"2^53+1.0 for a double":        ofOptional("double_value", json.Number("9007199254740993.0"), encode.Inexact, "9007199254740993.0"),
		"2^24+1 for a float, as JSON":  ofOptional("float_value", json.Number("16777217"), encode.Inexact, "16777217"),
		"2^53+1 for a double, as JSON": ofOptional("double_value", json.Number("9007199254740993"), encode.Inexact, "9007199254740993"),
		"2^24+1 for a float":           ofOptional("float_value", 1<<24+1, encode.Inexact, "16777217"),
		"2^53+1 in JSON":               of(&testv1.Choice{}, anyArgs{"json": int64(1<<53 + 1)}, "json", encode.Inexact, "9007199254740993"),

		"invalid UTF-8":               ofOptional("string_value", "a\xff", encode.BadText, `is not valid UTF-8: "a\xff"`),
		"long invalid UTF-8":          ofOptional("string_value", strings.Repeat("\xff", 1<<20), encode.BadText, strings.Repeat(`\xff`, 40)),
		"invalid UTF-8 in a key":      of(order, with("labels", map[string]string{"\xff": "x"}), `labels["\xff"]`, encode.BadText, "is not valid UTF-8"),
		"invalid UTF-8 in a message":  of(&testv1.Optionals{}, anyArgs{"item": &testv1.Item{Name: "\xff"}}, "item.name", encode.BadText, "is not valid UTF-8"),
		"invalid UTF-8 in JSON":       of(&testv1.Choice{}, anyArgs{"json": anyArgs{"\xff": 1}}, `json["\xff"]`, encode.BadText, "is not valid UTF-8"),
		"an unknown enum name":        ofOptional("mood", "MOOD_CLAM", encode.NoSuchValue, `is "MOOD_CLAM", which is no value of onecall.test.v1.Mood: did you mean MOOD_CALM?`),
		"an enum name in lower case":  ofOptional("mood", "mood_calm", encode.NoSuchValue, "did you mean MOOD_CALM?"),
		"an empty enum name":          ofOptional("mood", "", encode.NoSuchValue, `is "", which is no value of onecall.test.v1.Mood: it has MOOD_UNSPECIFIED, MOOD_CALM, MOOD_CURIOUS and MOOD_SOUR`),
		"an undeclared enum number":   ofOptional("mood", 99, encode.NoSuchValue, "has a number 99 that onecall.test.v1.Mood does not declare"),
		"a huge enum number":          ofOptional("mood", int64(1)<<32, encode.NoSuchValue, "4294967296"),
		"another enum":                ofOptional("mood", testv1.Kinds_Inner_STATE_ON, encode.WrongType, "testv1.Kinds_Inner_State was given"),
		"a bool for an enum":          ofOptional("mood", true, encode.WrongType, "takes the name of a value of onecall.test.v1.Mood, such as \"MOOD_CALM\", and bool was given"),
		"two members of a oneof":      of(order, anyArgs{"customer_name": "x", "mood": 0, "address": &testv1.Address{}, "email": "a", "phone": "b"}, "phone", encode.Doubled, "cannot be given together with email: the two are members of oneof contact"),
		"a string key for an int key": of(&testv1.Maps{}, anyArgs{"int32_keys": map[string]any{"7": []byte{}}}, "int32_keys", encode.WrongType, `has keys of int32, and a key is string "7"`),
		"an int key for a string key": of(order, with("labels", map[int]string{7: "x"}), "labels", encode.WrongType, "takes a string, and int"),
		"a float key":                 of(&testv1.Maps{}, anyArgs{"int32_keys": map[float64]any{7: []byte{}}}, "int32_keys", encode.WrongType, "a key is float64 7"),
		"a key out of range":          of(&testv1.Maps{}, anyArgs{"uint32_keys": map[int]any{-1: 1.5}}, "uint32_keys", encode.OutOfRange, "the number -1"),
		"a key twice":                 of(&testv1.Maps{}, anyArgs{"int64_keys": map[any]any{int8(1): true, int16(1): true}}, "int64_keys", encode.Doubled, "has a key 1 twice"),
		"a nil key":                   of(&testv1.Maps{}, anyArgs{"int64_keys": map[any]any{nil: true}}, "int64_keys", encode.Nil, "is nil"),
		"a wrong value in a map":      of(order, with("labels", map[string]any{"a": 1}), `labels["a"]`, encode.WrongType, "takes a string, and int was given"),
		"a wrong value at an int key": of(&testv1.Maps{}, anyArgs{"int64_keys": map[int64]any{-7: 1}}, `int64_keys[-7]`, encode.WrongType, "takes a bool"),

		"nil":                           of(order, with("customer_name", nil), "customer_name", encode.Nil, "is nil: leave it out, or give a value"),
		"nil for an optional one":       ofOptional("string_value", nil, encode.Nil, "is nil"),
		"a nil pointer":                 ofOptional("int32_value", nilInt, encode.Nil, "is nil"),
		"a nil message":                 ofOptional("item", typedNil, encode.Nil, "is nil"),
		"nil for a list":                of(order, with("items", nil), "items", encode.Nil, "is nil"),
		"nil in a list":                 of(order, with("items", []any{good{}, good{}, nil}), "items[2]", encode.Nil, "is nil"),
		"a nil message in a list":       of(order, with("items", []*testv1.Item{nil}), "items[0]", encode.Nil, "is nil"),
		"nil for a map":                 of(order, with("labels", nil), "labels", encode.Nil, "is nil"),
		"nil in a map":                  of(order, with("labels", map[string]any{"a": nil}), `labels["a"]`, encode.Nil, "is nil"),
		"nil for a oneof":               of(order, with("email", nil), "email", encode.Nil, "is nil"),
		"a nil pointer for a Value":     of(&testv1.Choice{}, anyArgs{"json": nilInt}, "json", encode.Nil, "is nil"),
		"nil in a message's list":       of(&testv1.Kinds{}, anyArgs{"lists": &testv1.Lists{Items: []*testv1.Item{nil}}}, "lists.items[0]", encode.Nil, "is nil"),
		"a struct around nothing":       ofOptional("item", struct{ proto.Message }{}, encode.Nil, "is nil"),
		"a struct around a nil message": ofOptional("item", struct{ *testv1.Item }{}, encode.Nil, "is nil"),
		"what omitempty leaves out": of(&testv1.Optionals{}, anyArgs{"item": struct {
			Name  string `json:"name"`
			Price int    `json:"price,omitempty"`
		}{}}, "item.price", encode.Missing, "is missing"),
		"what omitzero leaves out": of(&testv1.Optionals{}, anyArgs{"item": struct {
			Name  [0]byte `json:"-"`
			Price int     `json:"price,omitzero"`
		}{}}, "item.price", encode.Missing, "is missing"),
		"an empty dynamic message": ofOptional("item", &dynamicpb.Message{}, encode.Nil, "is nil"),
		"an enum around nothing":   ofOptional("mood", struct{ protoreflect.Enum }{}, encode.WrongType, "was given"),
		"a pointer to itself":      ofOptional("int32_value", loop, encode.TooDeep, "lies behind more than 16 pointers"),

		"a long duration":                    of(&testv1.Choice{}, anyArgs{"wait": anyArgs{"seconds": int64(1) << 40, "nanos": 0}}, "wait", encode.OutOfRange, "ends at 10,000 years"),
		"two signs":                          of(&testv1.Choice{}, anyArgs{"wait": anyArgs{"seconds": 1, "nanos": -1}}, "wait", encode.OutOfRange, "have one sign"),
		"half a duration":                    of(&testv1.Choice{}, anyArgs{"wait": anyArgs{"seconds": 1}}, "wait.nanos", encode.Missing, "is missing"),
		"a string for a mask":                of(&testv1.Choice{}, anyArgs{"mask": "a"}, "mask", encode.WrongType, "takes a slice"),
		"an int in a mask":                   of(&testv1.Choice{}, anyArgs{"mask": []any{"a", 1}}, "mask[1]", encode.WrongType, "takes a string"),
		"a list for an object":               of(&testv1.Choice{}, anyArgs{"object": []any{}}, "object", encode.WrongType, "takes a map[string]any of what JSON can say, and []any was given"),
		"nil for an object":                  of(&testv1.Choice{}, anyArgs{"object": nil}, "object", encode.Nil, "is nil"),
		"an object for a list":               of(&testv1.Choice{}, anyArgs{"values": anyArgs{}}, "values", encode.WrongType, "takes a []any of what JSON can say"),
		"an int for an object":               of(&testv1.Choice{}, anyArgs{"object": 1}, "object", encode.WrongType, "takes a map[string]any"),
		"a wrong value in one":               of(&testv1.Choice{}, anyArgs{"object": anyArgs{"a": 1i}}, `object["a"]`, encode.WrongType, "complex128 was given"),
		"an Any without a type":              of(&testv1.Choice{}, anyArgs{"anything": anyArgs{"name": "x"}}, "anything.@type", encode.Missing, "is missing"),
		"an Any of an empty type":            of(&testv1.Choice{}, anyArgs{"anything": anyArgs{"@type": "", "value": []byte{1}}}, "anything.@type", encode.Missing, "is missing"),
		"an Any of an unknown type":          of(&testv1.Choice{}, anyArgs{"anything": anyArgs{"@type": "x.y/No", "value": "x"}}, "anything.@type", encode.NoSuchValue, `is a type "x.y/No" that is not known here`),
		"a wrong field in an Any":            of(&testv1.Choice{}, anyArgs{"anything": anyArgs{"@type": "x.y/onecall.test.v1.Item", "name": 1, "price": 1}}, "anything.name", encode.WrongType, "takes a string"),
		"a bare value in an Any":             of(&testv1.Choice{}, anyArgs{"anything": anyArgs{"@type": "x.y/google.protobuf.Duration", "value": 1}}, "anything.value", encode.WrongType, "takes a time.Duration"),
		"a name besides the value in an Any": of(&testv1.Choice{}, anyArgs{"anything": anyArgs{"@type": "x.y/google.protobuf.Duration", "value": time.Second, "x": 1}}, "anything", encode.Missing, `takes "@type" and "value", and nothing else`),
		"no value in an Any":                 of(&testv1.Choice{}, anyArgs{"anything": anyArgs{"@type": "x.y/google.protobuf.Duration", "seconds": 1}}, "anything", encode.Missing, `takes "@type" and "value", and nothing else`),
		"a number for an Any":                of(&testv1.Choice{}, anyArgs{"anything": 1}, "anything", encode.WrongType, "takes a proto.Message"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := refusal(t, test.request, test.args)
			for _, problem := range bad.Problems {
				if problem.Kind == test.kind && problem.Path == test.path && strings.Contains(problem.Text, test.text) {
					return
				}
			}
			t.Errorf("no %s of %s: %q in %+v", test.kind, test.path, test.text, bad.Problems)
		})
	}
}

// TestErrorTellsAll checks one whole error text.
func TestErrorTellsAll(t *testing.T) {
	t.Parallel()
	bad := refusal(t, &testv1.PlaceRequest{}, map[string]any{
		"customerName": "adam",
		"adddress":     anyArgs{},
		"items":        []any{anyArgs{"name": "x", "price": 1}, anyArgs{"name": 1, "prise": 1}},
		"mood":         "MOOD_HAPPY",
	})
	want := `test.kinds.rpc: customer_name is missing: it takes a string; ` +
		`items[1].name takes a string, and int was given; items[1].price is missing: it takes an integer (int64); items[1].prise is no parameter: did you mean price?; ` +
		`address is missing: it takes the fields of onecall.test.v1.Address as framework.Args or a struct; ` +
		`mood is "MOOD_HAPPY", which is no value of onecall.test.v1.Mood: it has MOOD_UNSPECIFIED, MOOD_CALM, MOOD_CURIOUS and MOOD_SOUR; ` +
		`adddress is no parameter: did you mean address?; customerName is no parameter but the JSON name of one: write customer_name. ` +
		`Write bus.Call(ctx, "test.kinds.rpc", framework.Args{"customer_name": "…", "address": framework.Args{…}, "mood": "MOOD_CALM"})` +
		` // optional: "items": []any{framework.Args{…}}, "note": "…", "labels": map[string]any{"…": "…"}, "secrets": framework.Args{…}, "email": "…" or "phone": "…"`
	if bad.Error() != want {
		t.Errorf("got  %s\nwant %s", bad.Error(), want)
	}
}

// TestManyProblems checks that problems beyond the first ones are counted.
func TestManyProblems(t *testing.T) {
	t.Parallel()
	for _, count := range []int{20, 21, 500, 1 << 20} {
		bad := refusal(t, &testv1.Lists{}, map[string]any{"int32_values": make([]bool, count)})
		if want := min(count, 1020) - 20; len(bad.Problems) != 20 || bad.More != want {
			t.Errorf("of %d problems %d are told and %d counted, want %d", count, len(bad.Problems), bad.More, want)
		}
		if bad.More > 0 && !strings.Contains(bad.Error(), fmt.Sprintf("; and %d more. Write ", bad.More)) {
			t.Errorf("the error does not count: %s", bad.Error())
		}
	}
	unknown := make(map[string]any)
	for i := range 1 << 16 {
		unknown[fmt.Sprintf("%s%05d", strings.Repeat("x", 100), i)] = i
	}
	first := refusal(t, &testv1.Lists{}, unknown)
	if again := refusal(t, &testv1.Lists{}, unknown); first.Error() != again.Error() {
		t.Error("two errors of one call differ")
	}
}

// TestEncodeDepth nests values up to the bound and beyond it.
func TestEncodeDepth(t *testing.T) {
	t.Parallel()
	nested := func(levels int) map[string]any {
		out := map[string]any{"name": "x"}
		for range levels {
			out = map[string]any{"name": "x", "next": out}
		}
		return out
	}
	if _, err := request("a.b", (&testv1.Node{}).ProtoReflect().Descriptor(), nil, nested(protoargs.MaxDepth)); err != nil {
		t.Errorf("%d levels: %v", protoargs.MaxDepth, err)
	}
	tree := any(1)
	for range protoargs.MaxDepth + 1 {
		tree = []any{tree}
	}
	message := &testv1.Node{}
	for range protoargs.MaxDepth {
		message = &testv1.Node{Next: message}
	}
	itself := &testv1.Node{}
	itself.Next = itself
	cycle := map[string]any{"name": "x"}
	cycle["next"] = cycle
	list := []any{nil}
	list[0] = list
	many := map[string]any{"name": "x"}
	many["children"] = []any{many, many, many}
	wide := []any{nil, nil, nil}
	wide[0], wide[1], wide[2] = wide, wide, wide
	wideMessage := &testv1.Node{}
	wideMessage.Children = []*testv1.Node{wideMessage, wideMessage}
	inAny := any(&testv1.Item{})
	for range protoargs.MaxDepth + 1 {
		inAny = map[string]any{"@type": "x/google.protobuf.Any", "value": inAny}
	}
	type person struct {
		Name string
		Next *person
	}
	selfish := &person{}
	selfish.Next = selfish
	for name, test := range map[string]struct {
		request proto.Message
		args    map[string]any
	}{
		"one level more":                    {&testv1.Node{}, nested(protoargs.MaxDepth + 1)},
		"a million levels":                  {&testv1.Node{}, nested(1 << 20)},
		"JSON":                              {&testv1.Choice{}, anyArgs{"json": tree}},
		"a message":                         {&testv1.Node{}, anyArgs{"name": "x", "next": message}},
		"a message that holds itself":       {&testv1.Node{}, anyArgs{"name": "x", "next": itself}},
		"a map that holds itself":           {&testv1.Node{}, cycle},
		"a slice that holds itself":         {&testv1.Choice{}, anyArgs{"json": list}},
		"a struct that holds itself":        {&testv1.Node{}, anyArgs{"name": "x", "next": selfish}},
		"a map that holds itself thrice":    {&testv1.Node{}, many},
		"a slice that holds itself thrice":  {&testv1.Choice{}, anyArgs{"json": wide}},
		"a message that holds itself twice": {&testv1.Node{}, anyArgs{"name": "x", "next": wideMessage}},
		"Any in Any":                        {&testv1.Choice{}, anyArgs{"anything": inAny}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := refusal(t, test.request, test.args)
			for _, problem := range bad.Problems {
				if problem.Kind == encode.TooDeep && problem.Path != "" && len(problem.Path) < 700 {
					return
				}
			}
			t.Errorf("not too deep: %v", bad)
		})
	}
}

// someLimit is a limit for the size of requests.
const someLimit = 4 << 20

// TestEncodeTooLarge checks that Encode stops as soon as the request is too large.
func TestEncodeTooLarge(t *testing.T) {
	t.Parallel()
	// Each level contains the one below it ten times: 10^20 items without a cycle.
	long := strings.Repeat("x", 1<<10)
	tower := map[string]any{"name": long}
	for range 20 {
		tower = map[string]any{"name": "x", "children": []any{tower, tower, tower, tower, tower, tower, tower, tower, tower, tower}}
	}
	message := &testv1.Node{Name: long}
	for range 20 {
		message = &testv1.Node{Children: []*testv1.Node{message, message, message, message, message, message, message, message, message, message}}
	}
	tree := any(long)
	for range 20 {
		tree = []any{tree, tree, tree, tree, tree, tree, tree, tree, tree, tree}
	}
	for name, test := range map[string]struct {
		request proto.Message
		args    map[string]any
	}{
		"a long string":           {&testv1.Optionals{}, anyArgs{"string_value": strings.Repeat("x", someLimit+1)}},
		"a string at the bound":   {&testv1.Optionals{}, anyArgs{"string_value": strings.Repeat("x", someLimit)}},
		"many bytes":              {&testv1.Optionals{}, anyArgs{"bytes_value": make([]byte, someLimit+1)}},
		"many numbers":            {&testv1.Lists{}, anyArgs{"int64_values": slices.Repeat([]int{-1}, someLimit/10)}},
		"a large message":         {&testv1.Optionals{}, anyArgs{"item": &testv1.Item{Name: strings.Repeat("x", someLimit+1)}}},
		"something wrong besides": {&testv1.Lists{}, anyArgs{"bool_values": 1, "string_values": []string{strings.Repeat("x", someLimit+1)}}},
		"a tower of maps":         {&testv1.Node{}, tower},
		"a tower of messages":     {&testv1.Node{}, anyArgs{"name": "x", "next": message}},
		"a tower of JSON":         {&testv1.Choice{}, anyArgs{"json": tree}},
		"bytes in an Any":         {&testv1.Choice{}, anyArgs{"anything": anyArgs{"@type": "x/no", "value": make([]byte, someLimit+1)}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := refusal(t, test.request, test.args)
			if problem := bad.Problems[0]; len(bad.Problems) != 1 || problem.Kind != encode.TooLarge || problem.Path != "" || !strings.Contains(problem.Text, "more than 4 MiB") {
				t.Errorf("not too large: %v", bad)
			}
		})
	}
}

// TestErrorsTellNoSecret passes a secret to every field with debug_redact, in every
// wrong way.
func TestErrorsTellNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	secretBad := secret + "\xff"
	for name, given := range map[string]any{
		"invalid UTF-8":            anyArgs{"word": secretBad, "pin": 1},
		"a wrong type":             anyArgs{"word": []string{secret}, "pin": secret},
		"a json.Number":            anyArgs{"word": "", "pin": json.Number(secret)},
		"a number out of range":    anyArgs{"word": "", "pin": int64(70727000000000)},
		"a number that is inexact": anyArgs{"word": "", "pin": 70727.5},
		"in a list":                anyArgs{"word": "", "pin": 1, "codes": []any{secretBad, 1}},
		"a map's key":              anyArgs{"word": "", "pin": 1, "answers": map[string]any{secret: "x", secretBad: 1}},
		"a map's value":            anyArgs{"word": "", "pin": 1, "answers": map[string]any{"a": secret}},
		"a number as a key":        anyArgs{"word": "", "pin": 1, "answers": map[int]any{70727: 1}},
		"a key twice":              anyArgs{"word": "", "pin": 1, "answers": map[any]any{secret: 1, namedString(secret): 2}},
		"a nested name":            anyArgs{"word": "", "pin": 1, "vault": anyArgs{secret: 1}},
		"a nested value":           anyArgs{"word": "", "pin": 1, "vault": anyArgs{"name": secretBad, "price": json.Number(secret)}},
		"a struct":                 anyArgs{"word": "", "pin": 1, "vault": struct{ Name json.Number }{secret}},
		"a message":                anyArgs{"word": "", "pin": 1, "vault": &testv1.Item{Name: secretBad}},
		"a message around":         &testv1.Secrets{Word: secretBad, Codes: []string{secretBad}, Answers: map[string]int32{secretBad: 1}, Vault: &testv1.Item{Name: secretBad}},
		"an enum's name":           anyArgs{"word": "", "pin": 1, "mood": secret},
		"an enum's number":         anyArgs{"word": "", "pin": 1, "mood": 70727},
		"a time":                   anyArgs{"word": "", "pin": 1, "born": time.Date(70727, 1, 1, 0, 0, 0, 0, time.UTC)},
		"a key of JSON":            anyArgs{"word": "", "pin": 1, "papers": anyArgs{secret: make(chan int)}},
		"a value of JSON":          anyArgs{"word": "", "pin": 1, "papers": anyArgs{"a": []any{secretBad, json.Number(secret), int64(70727<<40 + 1)}}},
		"both members of a oneof":  anyArgs{"word": "", "pin": 1, "key_text": secretBad, "key_number": 70727.5},
		"the message as text":      secret,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, around := range []struct {
				request proto.Message
				args    map[string]any
			}{
				{&testv1.PlaceRequest{}, anyArgs{"secrets": given}},
				{&testv1.Kinds{}, anyArgs{"more": []any{anyArgs{"secrets": given}}}},
				{&testv1.Choice{}, anyArgs{"anything": inAny(given)}},
			} {
				bad := refusal(t, around.request, around.args)
				text := bad.Error() + fmt.Sprintf("%+v", bad) + status.Convert(bad).String()
				for _, word := range []string{"hunter", "70727", "7.0727", "77764"} {
					if strings.Contains(text, word) {
						t.Errorf("the error tells %s: %s", word, text)
					}
				}
			}
		})
	}
}

// TestErrorsTellTheRest checks that fields after a redacted field are shown.
func TestErrorsTellTheRest(t *testing.T) {
	t.Parallel()
	bad := refusal(t, &testv1.Kinds{}, anyArgs{
		"secrets": anyArgs{"word": "hunter2", "pin": 70727, "mood": "MOOD_CALM"},
		"more":    []any{anyArgs{"mood": "shown"}},
	})
	if text := bad.Error(); !strings.Contains(text, `more[0].mood is "shown"`) || strings.Contains(text, "hunter2") {
		t.Error(text)
	}
}

// TestProblemsAreInOrder checks that problems inside maps are in the order of the keys.
func TestProblemsAreInOrder(t *testing.T) {
	t.Parallel()
	labels, numbers, wrong, mixed := map[string]any{}, map[int]any{}, map[string]any{}, map[any]any{}
	for i := range 19 {
		labels[fmt.Sprintf("%02d", i)] = i
		numbers[i-9] = "x"
		wrong[fmt.Sprintf("%02d", i)] = true
		mixed[i] = nil
		mixed[fmt.Sprintf("%02d", i)] = nil
	}
	for name, test := range map[string]struct {
		request proto.Message
		args    map[string]any
		paths   func(i int) string
		texts   func(i int) string
	}{
		"strings":    {&testv1.Maps{}, anyArgs{"string_keys": labels}, func(i int) string { return fmt.Sprintf(`string_keys["%02d"]`, i) }, nil},
		"numbers":    {&testv1.Maps{}, anyArgs{"int64_keys": numbers}, func(i int) string { return fmt.Sprintf(`int64_keys[%d]`, i-9) }, nil},
		"wrong keys": {&testv1.Maps{}, anyArgs{"int64_keys": wrong}, func(int) string { return "int64_keys" }, func(i int) string { return fmt.Sprintf(`"%02d"`, i) }},
		"objects":    {&testv1.Choice{}, anyArgs{"object": map[string]any{"a": 1i, "b": 1i, "c": 1i, "d": 1i, "e": 1i, "f": 1i, "g": 1i}}, func(i int) string { return fmt.Sprintf(`object[%q]`, string(rune('a'+i))) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bad := refusal(t, test.request, test.args)
			for i, problem := range bad.Problems {
				if problem.Path != test.paths(i) || test.texts != nil && !strings.Contains(problem.Text, test.texts(i)) {
					t.Errorf("%s: problem %d is %+v", name, i, problem)
				}
			}
		})
	}
	first := refusal(t, &testv1.Maps{}, anyArgs{"int64_keys": mixed}).Error()
	for range 10 {
		if again := refusal(t, &testv1.Maps{}, anyArgs{"int64_keys": mixed}).Error(); again != first {
			t.Errorf("two errors of one call differ:\n%s\n%s", first, again)
		}
	}
}

// inAny returns the map of an Any that contains a Secrets.
func inAny(given any) any {
	fields, ok := given.(anyArgs)
	if !ok {
		return given
	}
	out := map[string]any{"@type": "type.googleapis.com/onecall.test.v1.Secrets"}
	maps.Copy(out, fields)
	return out
}

// TestPositional checks that the error shows the types and the correct call, but no value.
func TestPositional(t *testing.T) {
	t.Parallel()
	request := (&testv1.SignInRequest{}).ProtoReflect().Descriptor()
	for name, test := range map[string]struct {
		desc   protoreflect.MessageDescriptor
		values []any
		want   string
	}{
		"two": {request, []any{"admin", 7}, `auth.sign_in: parameters go by name only, and 2 values without names were given: string and int. ` +
			`Write bus.Call(ctx, "auth.sign_in", framework.Args{"username": "…", "password": "…"})`},
		"one":               {request, []any{[]byte("admin")}, `and one value without a name was given: []uint8. Write bus.Call(ctx, "auth.sign_in", framework.Args{"username"`},
		"nil":               {request, []any{nil}, `one value without a name was given: nil. `},
		"none":              {request, nil, `parameters go by name only, and the call has none. `},
		"an unknown schema": {nil, []any{"admin"}, `Write bus.Call(ctx, "auth.sign_in", framework.Args{"name": value, …})`},
		"a million":         {request, make([]any, 1<<20), `1048576 values without names were given: nil, nil`},
	} {
		t.Run(name, func(t *testing.T) {
			err := encode.Positional("auth.sign_in", encode.Usage("auth.sign_in", test.desc), test.values)
			var bad *encode.ArgumentError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "admin") {
				t.Errorf("%s: %v\nwant %s", name, err, test.want)
				return
			}
			protoargstest.FitToPrint(t, bad)
		})
	}
}
