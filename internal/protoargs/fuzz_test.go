package protoargs_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/internal/protoargs/decode"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/protoargs/protoargstest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// FuzzEncode passes any JSON as arguments. Nothing may panic. If Encode accepts them, ToMap
// and Encode must return an equal request.
func FuzzEncode(f *testing.F) {
	for _, text := range []string{
		`{}`, `null`, `{"choice": {"json": [1, null, {"a": "b"}]}}`,
		`{"scalars": {"double_value": 1, "float_value": 0.1, "int32_value": 1e3, "bytes_value": "x"}, "mood": "MOOD_CALM", "item": {"name": "x", "price": 9007199254740993}, "inner": {"state": 1}}`,
		`{"lists": {"int32_values": [1, 2.5, "3"], "moods": [0, "MOOD_SOUR"], "items": [{"name": "a", "price": 1}, null]}}`,
		`{"maps": {"string_keys": {"a": "b"}, "bool_keys": {"true": {}}, "values": {"a": [[[]]]}, "times": {"a": {"seconds": 1, "nanos": 2}}}}`,
		`{"node": {"name": "a", "next": {"name": "b"}, "children": [{"name": "c"}], "named": {"d": {"name": "e"}}}}`,
		`{"well_known": {"anything": {"@type": "x/onecall.test.v1.Item", "name": "x", "price": 1}, "duration": {"seconds": 1, "nanos": 1}, "object": {}}}`,
		`{"choice": {"flag": true, "text": ""}, "secrets": {"word": "x", "pin": 1e99}}`,
	} {
		f.Add(text)
	}
	type target struct {
		name    string
		request proto.Message
		plan    *encode.Plan
	}
	var targets []target
	for _, request := range []proto.Message{&testv1.Kinds{}, &testv1.Optionals{}, &testv1.Lists{}, &testv1.Choice{}, &testv1.Maps{}} {
		targets = append(targets, target{"", request, encode.NewPlan("test.kinds.mirror", request.ProtoReflect().Descriptor(), nil)})
	}
	kinds := targets[0]
	f.Fuzz(func(t *testing.T, text string) {
		for _, exact := range []bool{false, true} {
			decoder := json.NewDecoder(strings.NewReader(text))
			if exact {
				decoder.UseNumber()
			}
			var given map[string]any
			if decoder.Decode(&given) != nil {
				return
			}
			try(t, kinds.plan, given)
			for name, inner := range given {
				if fields, ok := inner.(map[string]any); ok {
					for _, other := range targets[1:] {
						if strings.HasPrefix(string(other.request.ProtoReflect().Descriptor().Name()), strings.ToUpper(name[:min(1, len(name))])) {
							try(t, other.plan, fields)
						}
					}
				}
			}
		}
	})
}

func try(t *testing.T, plan *encode.Plan, given map[string]any) {
	t.Helper()
	got, err := plan.Encode(given)
	if err != nil {
		var bad *encode.ArgumentError
		if !errors.As(err, &bad) {
			t.Fatalf("%T: %v", err, err)
		}
		protoargstest.FitToPrint(t, bad)
		return
	}
	again, err := plan.Encode(decode.Map(got, nil))
	if err != nil || !proto.Equal(got, again) {
		t.Fatalf("%v came back as %v, %v", got, again, err)
	}
	var plain any
	if err := decode.Into(got, nil, &plain); err != nil {
		t.Fatal(err)
	}
	copied := got.ProtoReflect().New().Interface()
	if err := decode.Into(got, nil, copied); err != nil || !proto.Equal(got, copied) {
		t.Fatalf("%v was decoded as %v, %v", got, copied, err)
	}
}
