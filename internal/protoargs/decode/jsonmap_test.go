package decode_test

import (
	"encoding/json"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/onecall-dev/onecall/internal/protoargs/decode"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestEveryMapCanBeWrittenAsJSON(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		message proto.Message
		field   string
		want    string
	}{
		"bool keys":           {&testv1.Maps{BoolKeys: map[bool]*testv1.Item{false: {Name: "x"}}}, "bool_keys", `{"false":{"name":"x","price":0}}`},
		"no bool keys":        {&testv1.Maps{}, "bool_keys", `{}`},
		"integer keys":        {&testv1.Maps{Int64Keys: map[int64]bool{-7: true}}, "int64_keys", `{"-7":true}`},
		"NaN":                 {&testv1.Optionals{DoubleValue: new(math.NaN())}, "double_value", `"NaN"`},
		"infinity as a float": {&testv1.Optionals{FloatValue: new(float32(math.Inf(1)))}, "float_value", `"Infinity"`},
		"infinity in a list":  {&testv1.Lists{DoubleValues: []float64{1, math.Inf(-1)}}, "double_values", `[1,"-Infinity"]`},
		"NaN in a map":        {&testv1.Maps{Uint32Keys: map[uint32]float64{1: math.NaN()}}, "uint32_keys", `{"1":"NaN"}`},
		"NaN in a wrapper":    {&testv1.WellKnown{DoubleWrapper: wrapperspb.Double(math.NaN())}, "double_wrapper", `"NaN"`},
		"NaN in a Struct":     {&testv1.WellKnown{Object: &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewNumberValue(math.NaN())}}}, "object", `{"a":"NaN"}`},
		"bytes":               {&testv1.Optionals{BytesValue: []byte{1}}, "bytes_value", `"AQ=="`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain := decode.Map(test.message, nil)
			if got, err := json.Marshal(plain[test.field]); err != nil || string(got) != test.want {
				t.Errorf("%v as JSON: %s %v, want %s", plain, got, err, test.want)
			}
		})
	}
}
