package protoargs_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/internal/protoargs"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func BenchmarkEncode(b *testing.B) {
	find, types := foreign(b)
	request := (&testv1.SignInRequest{}).ProtoReflect().Descriptor()
	given := map[string]any{"username": "admin", "password": "secret"}
	for _, bench := range []struct {
		name string
		plan *protoargs.Plan
		args map[string]any
	}{
		{"TwoStrings", protoargs.NewPlan("test.kinds.sign_in", request, nil), given},
		{"TwoStringsDynamic", protoargs.NewPlan("test.kinds.sign_in", find(request.FullName()), types), given},
		{"Order", protoargs.NewPlan("test.kinds.place", (&testv1.PlaceRequest{}).ProtoReflect().Descriptor(), nil), map[string]any{
			"customer_name": "adam", "mood": "MOOD_CALM", "address": map[string]any{"street": "x", "code": "y"},
			"items": []any{map[string]any{"name": "x", "price": 1}, map[string]any{"name": "y", "price": 2}},
		}},
		{"Megabyte", protoargs.NewPlan("test.kinds.mirror", (&testv1.Lists{}).ProtoReflect().Descriptor(), nil), map[string]any{"bytes_values": [][]byte{make([]byte, 1<<20)}}},
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
	plan := protoargs.NewPlan("test.kinds.sign_in", request, nil)
	b.Run("Refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := plan.Encode(wrong); err == nil {
				b.Fatal("it was taken")
			}
		}
	})
}

func BenchmarkToMap(b *testing.B) {
	for name, reply := range map[string]proto.Message{
		"OneField": &testv1.SignInResponse{Valid: true},
		"Order":    &testv1.PlaceResponse{Id: 1, Items: []*testv1.Item{{Name: "x", Price: 1}, {Name: "y", Price: 2}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				protoargs.ToMap(reply, nil)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	reply := &testv1.SignInResponse{Valid: true}
	b.Run("OneField", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var valid bool
			if err := protoargs.Decode(reply, nil, &valid); err != nil || !valid {
				b.Fatal(err)
			}
		}
	})
	order := &testv1.PlaceResponse{Id: 1, Items: []*testv1.Item{{Name: "x", Price: 1}}}
	b.Run("Struct", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var out placeOut
			if err := protoargs.Decode(order, nil, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}
