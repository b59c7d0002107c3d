package encode_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/protoargs/decode"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// parse returns the file of a FileDescriptorProto in text format.
func parse(tb testing.TB, text string) protoreflect.FileDescriptor {
	tb.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(text), file); err != nil {
		tb.Fatal(err)
	}
	desc, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		tb.Fatal(err)
	}
	return desc
}

// TestRequired checks which fields of each message are required.
func TestRequired(t *testing.T) {
	t.Parallel()
	proto2 := parse(t, `name: "two.proto" syntax: "proto2" package: "two"
		enum_type {name: "Shut" value {name: "ONE" number: 1} value {name: "TWO" number: 2}}
		message_type {name: "M"
			field {name: "must" number: 1 type: TYPE_INT32 label: LABEL_REQUIRED}
			field {name: "may" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL}
			field {name: "shut" number: 3 type: TYPE_ENUM type_name: ".two.Shut" label: LABEL_OPTIONAL}
			field {name: "group" number: 4 type: TYPE_GROUP type_name: ".two.M.Group" label: LABEL_OPTIONAL}
			nested_type {name: "Group" field {name: "in" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL}}}`)
	edition := parse(t, `name: "edition.proto" syntax: "editions" edition: EDITION_2023 package: "edition"
		message_type {name: "M"
			field {name: "present" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL}
			field {name: "plain" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL options {features {field_presence: IMPLICIT}}}
			field {name: "legacy" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL options {features {field_presence: LEGACY_REQUIRED}}}
			field {name: "self" number: 4 type: TYPE_MESSAGE type_name: ".edition.M" label: LABEL_OPTIONAL}}`)
	circle := parse(t, `name: "circle.proto" syntax: "proto3" package: "circle"
		message_type {name: "A"
			field {name: "b" number: 1 type: TYPE_MESSAGE type_name: ".circle.B" label: LABEL_OPTIONAL}}
		message_type {name: "B"
			field {name: "a" number: 1 type: TYPE_MESSAGE type_name: ".circle.A" label: LABEL_OPTIONAL}
			field {name: "leaf" number: 2 type: TYPE_MESSAGE type_name: ".circle.C" label: LABEL_OPTIONAL}}
		message_type {name: "C"
			field {name: "bs" number: 1 type: TYPE_MESSAGE type_name: ".circle.B" label: LABEL_REPEATED}}`)
	for name, test := range map[string]struct {
		desc protoreflect.MessageDescriptor
		want string
	}{
		"proto3":                 {(&testv1.PlaceRequest{}).ProtoReflect().Descriptor(), "customer_name address mood"},
		"proto2":                 {proto2.Messages().ByName("M"), "must"},
		"an edition":             {edition.Messages().ByName("M"), "plain legacy"},
		"a message in itself":    {(&testv1.Node{}).ProtoReflect().Descriptor(), "name"},
		"one half of a circle":   {circle.Messages().ByName("A"), ""},
		"the other half":         {circle.Messages().ByName("B"), "leaf"},
		"a circle that can end":  {circle.Messages().ByName("C"), ""},
		"optional and in oneofs": {(&testv1.Choice{}).ProtoReflect().Descriptor(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for i := range test.desc.Fields().Len() {
				if field := test.desc.Fields().Get(i); contract.Required(field) {
					got = append(got, string(field.Name()))
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("%s: %q are required, want %q", name, got, test.want)
			}
			// The required fields are sufficient.
			given := make(map[string]any)
			for _, name := range got {
				switch field := test.desc.Fields().ByName(protoreflect.Name(name)); field.Kind() {
				case protoreflect.StringKind:
					given[name] = "x"
				case protoreflect.MessageKind:
					given[name] = field.Message().FullName()
					given[name] = map[string]any{"street": "x", "code": "y"}
					if name == "leaf" {
						given[name] = map[string]any{}
					}
				default:
					given[name] = 0
				}
			}
			if _, err := request("a.b", test.desc, nil, given); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for name := range given {
				less := map[string]any{}
				for other, v := range given {
					if other != name {
						less[other] = v
					}
				}
				if _, err := request("a.b", test.desc, nil, less); err == nil {
					t.Errorf("without %s it was taken all the same", name)
				}
			}
		})
	}
	closed := proto2.Messages().ByName("M")
	for given, ok := range map[any]bool{1: true, 2: true, "ONE": true, 3: false, testv1.Mood(1): false} {
		if _, err := request("a.b", closed, nil, map[string]any{"must": 1, "shut": given}); (err == nil) != ok {
			t.Errorf("closed enum, %v: %v", given, err)
		}
	}
	got, err := request("a.b", closed, nil, map[string]any{"must": 1, "group": map[string]any{"in": "x"}})
	if err != nil || decode.Map(got, nil)["group"].(map[string]any)["in"] != "x" {
		t.Errorf("a group: %v %v", got, err)
	}
}

// TestAGivenMessageWithoutARequiredFieldIsRefused passes messages that cannot be encoded, of
// the schema itself and of another version of it.
func TestAGivenMessageWithoutARequiredFieldIsRefused(t *testing.T) {
	t.Parallel()
	text := `name: "two.proto" syntax: "proto2" package: "two"
		message_type {name: "Inner"
			field {name: "must" number: 1 type: TYPE_STRING label: LABEL_REQUIRED}
			field {name: "may" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL}}
		message_type {name: "Outer"
			field {name: "inners" number: 1 type: TYPE_MESSAGE type_name: ".two.Inner" label: LABEL_REPEATED}}
		message_type {name: "Request"
			field {name: "outer" number: 1 type: TYPE_MESSAGE type_name: ".two.Outer" label: LABEL_OPTIONAL}}`
	schema := parse(t, text)
	older := parse(t, strings.Replace(text, "LABEL_REQUIRED", "LABEL_OPTIONAL", 1))
	for name, version := range map[string]protoreflect.FileDescriptor{"of the schema": schema, "of another version": older} {
		t.Run(name, func(t *testing.T) {
			outer := dynamicpb.NewMessage(version.Messages().ByName("Outer"))
			if err := (prototext.UnmarshalOptions{AllowPartial: true}).Unmarshal([]byte(`inners {must: "x"} inners {may: "y"}`), outer); err != nil {
				t.Fatal(err)
			}
			got, err := request("a.b", schema.Messages().ByName("Request"), nil, map[string]any{"outer": outer})
			var bad *encode.ArgumentError
			if !errors.As(err, &bad) || len(bad.Problems) != 1 {
				t.Errorf("%s: %v, %v", name, got, err)
				return
			}
			if want := (encode.Problem{Path: "outer.inners[1].must", Text: "is missing: it takes a string", Kind: encode.Missing}); bad.Problems[0] != want {
				t.Errorf("%s: %+v, want %+v", name, bad.Problems[0], want)
			}
		})
	}
	packed, err := request("a.b", (&testv1.WellKnown{}).ProtoReflect().Descriptor(), nil, map[string]any{"anything": dynamicpb.NewMessage(schema.Messages().ByName("Inner"))})
	if err == nil || !strings.Contains(err.Error(), "anything.must is missing") {
		t.Errorf("in an Any: %v, %v", packed, err)
	}
}

// TestBogusWellKnown uses a schema whose google.protobuf.Timestamp has other fields than
// protobuf's. Such a message is an ordinary one.
func TestBogusWellKnown(t *testing.T) {
	t.Parallel()
	files, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		bogus("Timestamp", "seconds", descriptorpb.FieldDescriptorProto_TYPE_STRING),
		bogus("Duration", "nanos", descriptorpb.FieldDescriptorProto_TYPE_INT64),
		bogus("Any", "type_url", descriptorpb.FieldDescriptorProto_TYPE_STRING),
		bogus("Struct", "fields", descriptorpb.FieldDescriptorProto_TYPE_STRING),
		bogus("Value", "null_value", descriptorpb.FieldDescriptorProto_TYPE_STRING),
		bogus("ListValue", "values", descriptorpb.FieldDescriptorProto_TYPE_STRING),
		bogus("FieldMask", "paths", descriptorpb.FieldDescriptorProto_TYPE_STRING),
		bogus("Int32Value", "value", descriptorpb.FieldDescriptorProto_TYPE_STRING),
	}})
	if err != nil {
		t.Fatal(err)
	}
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		desc := file.Messages().Get(1)
		field := desc.Fields().Get(0).Message().Fields().Get(0)
		value := map[protoreflect.Kind]any{protoreflect.StringKind: "x", protoreflect.Int64Kind: int64(7)}[field.Kind()]
		given := map[string]any{"it": map[string]any{string(field.Name()): value}}
		got, err := request("a.b", desc, nil, given)
		if err != nil {
			t.Errorf("%s: %v", file.Path(), err)
			return true
		}
		back, ok := decode.Map(got, nil)["it"].(map[string]any)
		if !ok || back[string(field.Name())] != value {
			t.Errorf("%s: %v became %v", file.Path(), given, back)
		}
		var plain any
		if err := decode.Into(got, nil, &plain); err != nil {
			t.Errorf("%s: %v", file.Path(), err)
		}
		for _, wrong := range []any{nil, 1, "x", []any{1}, map[string]any{"x": 1}, []string{"x"}} {
			if _, err := request("a.b", desc, nil, map[string]any{"it": wrong}); err == nil {
				t.Errorf("%s: %v was taken", file.Path(), wrong)
			}
		}
		return true
	})
}

// bogus returns a file with a message that has the name of a well-known one and only one
// field, and a request that contains it.
func bogus(name, field string, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FileDescriptorProto {
	return &descriptorpb.FileDescriptorProto{
		Name: new(name + ".proto"), Syntax: new("proto3"), Package: new("google.protobuf"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: &name, Field: []*descriptorpb.FieldDescriptorProto{{
				Name: &field, Number: new(int32(1)), Type: &kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}}},
			{Name: new(name + "Request"), Field: []*descriptorpb.FieldDescriptorProto{{
				Name: new("it"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(),
				TypeName: new(".google.protobuf." + name), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			}}},
		},
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		request proto.Message
		want    string
	}{
		"strings":            {&testv1.SignInRequest{}, `framework.Args{"username": "…", "password": "…"})`},
		"nothing required":   {&testv1.CountRequest{}, `framework.Args{}) // optional: "words": []any{"…"}`},
		"numbers and others": {&testv1.Scalars{}, `framework.Args{"double_value": 0.0, "float_value": 0.0, "int32_value": 0, `},
		"bytes and bool":     {&testv1.Scalars{}, `"bool_value": true, "string_value": "…", "bytes_value": []byte{…}})`},
		"well-known":         {&testv1.WellKnown{}, `framework.Args{"timestamp": time.Now(), "duration": time.Minute, "anything": message, "object": map[string]any{…}, "value": "…", "list_value": []any{…}, "field_mask": []string{"…"}, "empty": framework.Args{}, "double_wrapper": 0.0, `},
		"maps":               {&testv1.Maps{}, `"int32_keys": map[int32]any{0: []byte{…}}, "int64_keys": map[int64]any{0: true}, "uint32_keys": map[uint32]any{0: 0.0}`},
		"oneofs":             {&testv1.Choice{}, `{}) // optional: "number": 0.0, "count": 0, "flag": true, "text": "…", "data": []byte{…}, "mood": "MOOD_CALM", "item": framework.Args{…}, `},
	} {
		t.Run(name, func(t *testing.T) {
			got := encode.Usage("test.kinds.mirror", test.request.ProtoReflect().Descriptor())
			if !strings.HasPrefix(got, `bus.Call(ctx, "test.kinds.mirror", framework.Args{`) || !strings.Contains(got, test.want) {
				t.Errorf("%s:\n%s\nwant %s", name, got, test.want)
			}
		})
	}
	many := &descriptorpb.FileDescriptorProto{Name: new("many.proto"), Syntax: new("proto3"), MessageType: []*descriptorpb.DescriptorProto{{Name: new("Many")}}}
	for i := range 1000 {
		many.MessageType[0].Field = append(many.MessageType[0].Field, &descriptorpb.FieldDescriptorProto{
			Name: new(strings.Repeat("x", i+1)), Number: new(int32(i + 1)),
			Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		})
	}
	file, err := protodesc.NewFile(many, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := encode.Usage(strings.Repeat("é", 1000), file.Messages().Get(0)); len(got) > 1200 || !utf8.ValidString(got) || !strings.HasSuffix(got, ", …})") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}
