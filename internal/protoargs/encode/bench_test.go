package encode_test

import (
	"testing"

	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/protoargs/protoargstest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func BenchmarkEncode(b *testing.B) {
	find, types := protoargstest.Foreign(b)
	request := (&testv1.SignInRequest{}).ProtoReflect().Descriptor()
	given := map[string]any{"username": "admin", "password": "secret"}
	for _, bench := range []struct {
		name string
		plan *encode.Plan
		args map[string]any
	}{
		{"TwoStrings", encode.NewPlan("test.kinds.sign_in", request, nil), given},
		{"TwoStringsDynamic", encode.NewPlan("test.kinds.sign_in", find(request.FullName()), types), given},
		{"Order", encode.NewPlan("test.kinds.place", (&testv1.PlaceRequest{}).ProtoReflect().Descriptor(), nil), map[string]any{
			"customer_name": "adam", "mood": "MOOD_CALM", "address": map[string]any{"street": "x", "code": "y"},
			"items": []any{map[string]any{"name": "x", "price": 1}, map[string]any{"name": "y", "price": 2}},
		}},
		{"Megabyte", encode.NewPlan("test.kinds.mirror", (&testv1.Lists{}).ProtoReflect().Descriptor(), nil), map[string]any{"bytes_values": [][]byte{make([]byte, 1<<20)}}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bench.plan.Encode(bench.args); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	wrong := map[string]any{"username": "admin", "pasword": "secret"}
	plan := encode.NewPlan("test.kinds.sign_in", request, nil)
	b.Run("Refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := plan.Encode(wrong); err == nil {
				b.Fatal("it was taken")
			}
		}
	})
}
