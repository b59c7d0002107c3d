package decode_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/internal/protoargs/decode"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func BenchmarkMap(b *testing.B) {
	for name, reply := range map[string]proto.Message{
		"OneField": &testv1.SignInResponse{Valid: true},
		"Order":    &testv1.PlaceResponse{Id: 1, Items: []*testv1.Item{{Name: "x", Price: 1}, {Name: "y", Price: 2}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decode.Map(reply, nil)
			}
		})
	}
}

func BenchmarkInto(b *testing.B) {
	reply := &testv1.SignInResponse{Valid: true}
	b.Run("OneField", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var valid bool
			if err := decode.Into(reply, nil, &valid); err != nil || !valid {
				b.Fatal(err)
			}
		}
	})
	order := &testv1.PlaceResponse{Id: 1, Items: []*testv1.Item{{Name: "x", Price: 1}}}
	b.Run("Struct", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var out placeOut
			if err := decode.Into(order, nil, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}
