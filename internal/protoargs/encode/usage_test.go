package encode_test

import (
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestTheSpelledOutCallPassesTheRulesOrSaysWhatTheyDemand(t *testing.T) {
	t.Parallel()
	text := func(rules *validate.StringRules) *validate.FieldRules {
		return &validate.FieldRules{Type: &validate.FieldRules_String_{String_: rules}}
	}
	number := func(rules *validate.Int32Rules) *validate.FieldRules {
		return &validate.FieldRules{Type: &validate.FieldRules_Int32{Int32: rules}}
	}
	const str, i32 = descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_INT32
	for name, test := range map[string]struct {
		kind     descriptorpb.FieldDescriptorProto_Type
		repeated bool
		rules    *validate.FieldRules
		want     string
	}{
		"a length":              {str, false, text(&validate.StringRules{Len: new(uint64(16))}), `{"it": "(16 characters)"})`},
		"one character or more": {str, false, text(&validate.StringRules{MinLen: new(uint64(1)), MaxLen: new(uint64(64))}), `{"it": "…"})`},
		"a least length":        {str, false, text(&validate.StringRules{MinLen: new(uint64(8)), MaxLen: new(uint64(64))}), `{"it": "(8 to 64 characters)"})`},
		"a pattern":             {str, false, text(&validate.StringRules{Pattern: new("^[a-z]+$")}), `{"it": "(matches ^[a-z]+$)"})`},
		"one of some":           {str, false, text(&validate.StringRules{In: []string{"red", "green"}}), `{"it": "red"})`},
		"one text":              {str, false, text(&validate.StringRules{Const: new("red\n")}), `{"it": "red\n"})`},
		"an address":            {str, false, text(&validate.StringRules{WellKnown: &validate.StringRules_Email{Email: true}}), `{"it": "adam@example.com"})`},
		"an expression":         {str, false, &validate.FieldRules{Cel: []*validate.Rule{{Message: new("is \"a\"\nword */")}}}, `{"it": "(is 'a' word * /)"})`},
		"more than":             {i32, false, number(&validate.Int32Rules{GreaterThan: &validate.Int32Rules_Gt{Gt: 7}}), `{"it": 8})`},
		"a range":               {i32, false, number(&validate.Int32Rules{GreaterThan: &validate.Int32Rules_Gte{Gte: 3}, LessThan: &validate.Int32Rules_Lt{Lt: 5}}), `{"it": 3})`},
		"not zero":              {i32, false, number(&validate.Int32Rules{NotIn: []int32{0}}), `{"it": 1})`},
		"one of some numbers":   {i32, false, number(&validate.Int32Rules{In: []int32{5, 6}}), `{"it": 5})`},
		"a number not zero":     {i32, false, &validate.FieldRules{Required: new(true)}, `{"it": 1})`},
		"no such number":        {i32, false, number(&validate.Int32Rules{GreaterThan: &validate.Int32Rules_Gt{Gt: 3}, LessThan: &validate.Int32Rules_Lt{Lt: 4}, NotIn: []int32{5}}), `{"it": 0 /* more than 3, less than 4 */})`},
		"some elements":         {str, true, &validate.FieldRules{Type: &validate.FieldRules_Repeated{Repeated: &validate.RepeatedRules{MinItems: new(uint64(1)), Items: text(&validate.StringRules{Len: new(uint64(2))})}}}, `{"it": []any{"(2 characters)"}})`},
		"many elements":         {str, true, &validate.FieldRules{Type: &validate.FieldRules_Repeated{Repeated: &validate.RepeatedRules{MinItems: new(uint64(3))}}}, `{"it": []any{"…"} /* at least 3 items */})`},
		"no rule of elements":   {str, true, nil, `{}) // optional: "it": []any{"…"}`},
		"a rule that is off":    {str, false, &validate.FieldRules{Ignore: validate.Ignore_IGNORE_ALWAYS.Enum(), Required: new(true), Type: &validate.FieldRules_String_{String_: &validate.StringRules{Len: new(uint64(2))}}}, `{"it": "…"})`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := &descriptorpb.FieldOptions{}
			if test.rules != nil {
				proto.SetExtension(options, validate.E_Field, test.rules)
			}
			label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
			if test.repeated {
				label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
			}
			file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
				Name: new(strings.ReplaceAll(name, " ", "_") + ".proto"), Syntax: new("proto3"),
				MessageType: []*descriptorpb.DescriptorProto{{Name: new("Request"), Field: []*descriptorpb.FieldDescriptorProto{
					{Name: new("it"), Number: new(int32(1)), Type: test.kind.Enum(), Label: label.Enum(), Options: options},
				}}},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := `bus.Call(ctx, "shop.orders.get", framework.Args` + test.want
			if got := encode.Usage("shop.orders.get", file.Messages().Get(0)); got != want {
				t.Errorf("spelled out as\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestTheSpelledOutCallShowsWhatRulesDemandInAMessage(t *testing.T) {
	t.Parallel()
	const want = `bus.Call(ctx, "shop.orders.place", framework.Args{"customer": "…", "items": []any{framework.Args{"name": "…", "price": 1}}, "extra": message, ` +
		`"node": framework.Args{"name": "…"} /* this.name == 'nobody' ? 'no node is called ' + this.name : '… */, ` +
		`"gift": framework.Args{"name": "…", "price": 1}, "account": "(4 characters)"})`
	if got := encode.Usage("shop.orders.place", (&testv1.OrderRequest{}).ProtoReflect().Descriptor()); !strings.HasPrefix(got, want) {
		t.Errorf("spelled out as\n%s\nwant it to begin with\n%s", got, want)
	}
	for name, request := range map[string]proto.Message{"a tree": &testv1.OrderNode{}, "a list in itself": &testv1.Drawer{}, "no rules": &testv1.Node{}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := encode.Usage("shop.orders.place", request.ProtoReflect().Descriptor()); len(got) > 1200 {
				t.Errorf("spelled out in %d bytes: %s", len(got), got)
			}
		})
	}
}
