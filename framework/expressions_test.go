package framework_test

import (
	"fmt"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
)

// slowExpression returns an expression whose evaluation takes days.
func slowExpression() string {
	numbers := strings.TrimSuffix(strings.Repeat("1,", 200), ",")
	out := "true"
	for level := range 5 {
		out = fmt.Sprintf("[%s].all(v%d, %s)", numbers, level, out)
	}
	return out
}

// A schema of a registry can have any rules. Only the service evaluates its expressions.
// If the caller evaluated this one, the call would not return before its deadline.
func TestExpressionsOfARegistrysSchemaAreNotRun(t *testing.T) {
	t.Parallel()
	cel := []*validate.Rule{{Id: new("slow"), Expression: new(slowExpression())}}
	for name, change := range map[string]func(message *descriptorpb.DescriptorProto, field *validate.FieldRules){
		"of a message": func(message *descriptorpb.DescriptorProto, _ *validate.FieldRules) {
			message.Options = &descriptorpb.MessageOptions{}
			proto.SetExtension(message.GetOptions(), validate.E_Message, &validate.MessageRules{Cel: cel, CelExpression: []string{slowExpression()}})
		},
		"of a field": func(_ *descriptorpb.DescriptorProto, field *validate.FieldRules) { field.Cel = cel },
		"of a field, in short": func(_ *descriptorpb.DescriptorProto, field *validate.FieldRules) {
			field.CelExpression = []string{slowExpression()}
		},
		"that nobody knows": func(_ *descriptorpb.DescriptorProto, field *validate.FieldRules) {
			unknown := protowire.AppendVarint(protowire.AppendTag(nil, 70_000, protowire.VarintType), 1)
			field.GetString().ProtoReflect().SetUnknown(unknown)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := shopFile()
			message := file.GetMessageType()[0]
			field := proto.GetExtension(message.GetField()[0].GetOptions(), validate.E_Field).(*validate.FieldRules)
			change(message, field)
			proto.SetExtension(message.GetField()[0].GetOptions(), validate.E_Field, field)
			service, digest, packed := publish(t, file)
			registry := memory.New()
			if _, err := registry.Register(discovery.Instance{
				API: "shop.items", Address: "127.0.0.1:9", Service: string(service.FullName()), Schema: digest, Descriptors: packed,
			}); err != nil {
				t.Fatal(err)
			}
			bus := newBus(t, registry)

			_, err := bus.Call(t.Context(), "shop.items.find_item", framework.Args{"name": "tea", "most": 1})
			if status.Code(err) != codes.Unavailable {
				t.Errorf("a call to an address where nothing listens: %v, want UNAVAILABLE: the request is good", err)
			}
			// The standard rule beside it is checked here.
			_, err = bus.Call(t.Context(), "shop.items.find_item", framework.Args{"name": "", "most": 1})
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "string.min_len") {
				t.Errorf("a name without letters: %v, want it refused by its rule", err)
			}
		})
	}
}
