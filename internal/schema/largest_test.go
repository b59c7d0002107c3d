package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/schema"
)

// BenchmarkUnpackTheLargest unpacks descriptors that reach the limits. The results are in
// docs/named-parameters.md.
func BenchmarkUnpackTheLargest(b *testing.B) {
	for _, test := range []struct {
		name   string
		packed string
	}{
		{"messages", largest(b, 9_990, 1, 0)},
		{"fields", largest(b, 1, 19_900, 0)},
		{"names", largest(b, 9_900, 1, 250)},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := schema.Unpack(test.packed, "a.Service"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// largest returns packed descriptors with so many messages, so many fields in each, and so
// many additional bytes in each message name.
func largest(tb testing.TB, messages, fields, name int) string {
	tb.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: new("a.proto"), Package: new("a"), Syntax: new("proto3"),
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Service")}},
	}
	for i := range messages {
		file.MessageType = append(file.MessageType, message(1, 0, fields))
		file.MessageType[i].Name = new(fmt.Sprintf("M%d%s", i, strings.Repeat("m", name)))
	}
	return setOf(tb, file)
}
