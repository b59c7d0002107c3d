package protoargs_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/protoargs/decode"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/protoargs/protoargstest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// changed returns another version of the tests' schema.
func changed(tb testing.TB, change func(message func(name string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto)) (protoreflect.FileDescriptor, *dynamicpb.Types) {
	tb.Helper()
	file := protodesc.ToFileDescriptorProto(testv1.File_onecall_test_v1_kinds_proto)
	change(func(name string) *descriptorpb.DescriptorProto {
		at := slices.IndexFunc(file.GetMessageType(), func(m *descriptorpb.DescriptorProto) bool { return m.GetName() == name })
		return file.GetMessageType()[at]
	}, file)
	other, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		tb.Fatal(err)
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(other); err != nil {
		tb.Fatal(err)
	}
	return other, dynamicpb.NewTypes(files)
}

// otherVersions change the tests' schema, most of them so that the same bytes have another
// meaning. Each has a message that shows this, the path of the field, and the field's
// description in both versions.
var otherVersions = map[string]struct {
	change       func(message func(name string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto)
	message      proto.Message
	path         string
	ours, theirs string
	// fits is true if both versions read the message in the same way.
	fits bool
}{
	"an int32 for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_INT32),
		message: &testv1.PlaceResponse{Items: []*testv1.Item{{}, {Price: 1<<32 + 5}}}, path: "items.price", ours: "int64", theirs: "int32",
	},
	"a sint64 for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_SINT64),
		message: &testv1.Item{Price: 7}, path: "price", ours: "int64", theirs: "sint64",
	},
	"an uint64 for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_UINT64),
		message: &testv1.Item{Price: -5}, path: "price", ours: "int64", theirs: "uint64",
	},
	"a bool for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_BOOL),
		message: &testv1.Item{Price: 7}, path: "price", ours: "int64", theirs: "bool",
	},
	"a string for an int64": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING),
		message: &testv1.Item{Price: 7}, path: "price", ours: "int64", theirs: "string",
	},
	"bytes for a string": {
		change:  retype("Node", 0, descriptorpb.FieldDescriptorProto_TYPE_BYTES),
		message: &testv1.Node{Named: map[string]*testv1.Node{"a": {Name: "x"}}}, path: "name", ours: "string", theirs: "bytes",
	},
	"numbers that were swapped": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			fields := message("Address").GetField()
			fields[0].Number, fields[1].Number = fields[1].Number, fields[0].Number
		},
		message: &testv1.PlaceRequest{Address: &testv1.Address{Street: "x"}}, path: "address.street", ours: "number 1", theirs: "number 2",
	},
	"a number that moved": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			message("Address").GetField()[1].Number = new(int32(9))
		},
		message: &testv1.Address{Street: "x", Code: "y"}, path: "code", ours: "number 2", theirs: "number 9",
	},
	"a list for one value": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			message("CountRequest").GetField()[0].Label = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
		},
		message: &testv1.CountRequest{Words: []string{"a", "b"}}, path: "words", ours: "repeated", theirs: "one value",
	},
	"another key of a map": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			maps := message("Maps")
			for _, entry := range maps.GetNestedType() {
				if entry.GetName() == "Int64KeysEntry" {
					entry.GetField()[0].Type = descriptorpb.FieldDescriptorProto_TYPE_SINT64.Enum()
				}
			}
		},
		message: &testv1.Maps{Int64Keys: map[int64]bool{7: true}}, path: "int64_keys[key]", ours: "int64", theirs: "sint64",
	},
	"a time for a duration": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			for _, field := range message("WellKnown").GetField() {
				if field.GetName() == "duration" {
					field.TypeName = new(".google.protobuf.Timestamp")
				}
			}
		},
		message: &testv1.WellKnown{Duration: durationpb.New(1)}, path: "duration", ours: "google.protobuf.Duration", theirs: "google.protobuf.Timestamp",
	},
	"an enum's values that were swapped": {
		change:  swapMoods,
		message: &testv1.Lists{Moods: []testv1.Mood{0, testv1.Mood_MOOD_CALM}}, path: "moods MOOD_CALM", ours: "number 1", theirs: "number 2",
	},
	"a secret among them": {
		change:  swapMoods,
		message: &testv1.Secrets{Mood: testv1.Mood_MOOD_CALM.Enum()}, path: "mood MOOD_CALM", ours: "number 1", theirs: "number 2",
	},
	"a field that is not set": {
		change:  retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_INT32),
		message: &testv1.Item{Name: "x"}, path: "price", ours: "int64", theirs: "int32",
	},
	"an enum's value that has another name": {
		change: func(_ func(string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto) {
			file.GetEnumType()[0].GetValue()[1].Name = new("MOOD_SERENE")
		},
		message: &testv1.Lists{}, path: "moods MOOD_CALM", ours: "number 1", theirs: "named MOOD_SERENE",
	},
	"presence that changed": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			message("PlaceRequest").GetField()[3].Proto3Optional = nil
			message("PlaceRequest").GetField()[3].OneofIndex = nil
			message("PlaceRequest").OneofDecl = message("PlaceRequest").GetOneofDecl()[:1]
			message("PlaceRequest").GetField()[8].Proto3Optional = nil
			message("PlaceRequest").GetField()[8].OneofIndex = nil
		},
		message: &testv1.PlaceRequest{Note: new("x")}, fits: true,
	},
	"a field that is gone": {
		change: func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
			message("Item").Field = message("Item").GetField()[:1]
		},
		message: &testv1.PlaceResponse{Items: []*testv1.Item{{Name: "x", Price: 7}}}, fits: true,
	},
	"an enum's value that is gone": {
		change: func(_ func(string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto) {
			moods := file.GetEnumType()[0]
			moods.Value = moods.GetValue()[:1]
		},
		message: &testv1.Lists{Moods: []testv1.Mood{testv1.Mood_MOOD_CALM}}, fits: true,
	},
}

func retype(message string, field int, kind descriptorpb.FieldDescriptorProto_Type) func(func(string) *descriptorpb.DescriptorProto, *descriptorpb.FileDescriptorProto) {
	return func(find func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
		find(message).GetField()[field].Type = kind.Enum()
	}
}

func swapMoods(_ func(string) *descriptorpb.DescriptorProto, file *descriptorpb.FileDescriptorProto) {
	moods := file.GetEnumType()[0].GetValue()
	moods[1].Number, moods[2].Number = moods[2].Number, moods[1].Number
}

// TestAMessageThatAnotherSchemaReadsOtherwiseIsRefused passes a generated message to a
// schema that has other fields under the same message name.
func TestAMessageThatAnotherSchemaReadsOtherwiseIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range otherVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other, types := changed(t, test.change)
			// A message is accepted for a field of its own type, so put each into one.
			holder := holderOf(t, test.message.ProtoReflect().Descriptor(), other)
			got, err := request(holder, types, map[string]any{"held": test.message})
			if test.fits {
				if err != nil {
					t.Fatal(err)
				}
				protoargstest.SameOnTheWire(t, got.ProtoReflect().Get(holder.Fields().Get(0)).Message().Interface(), test.message)
				return
			}
			want := "held." + test.path + " is " + test.ours + " in the message given, and " + test.theirs + " in the schema: build both from one .proto"
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, %v, want %s", got, err, want)
			}
		})
	}
}

// TestAReplyOfAnotherSchemaThatReadsOtherwiseIsRefused decodes replies into messages of
// another version of the schema.
func TestAReplyOfAnotherSchemaThatReadsOtherwiseIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range otherVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The reply has the generated type, and the destination is of the other version.
			// It does not matter which of the two is the generated one.
			other, types := changed(t, test.change)
			into := dynamicpb.NewMessage(other.Messages().ByName(test.message.ProtoReflect().Descriptor().Name()))
			err := decode.Into(test.message, types, into)
			if test.fits {
				if err != nil {
					t.Fatal(err)
				}
				protoargstest.SameOnTheWire(t, into, test.message)
				return
			}
			want := "reply: " + test.path + " is " + test.ours + " in the reply, and " + test.theirs + " in the message given: build both from one .proto"
			if err == nil || err.Error() != want {
				t.Errorf("%v, %v, want %s", into, err, want)
			}
		})
	}
	other, types := changed(t, retype("Item", 1, descriptorpb.FieldDescriptorProto_TYPE_INT32))
	reply, err := request(other.Messages().ByName("PlaceResponse"), types, map[string]any{"id": 1, "items": []any{map[string]any{"name": "x", "price": 7}}})
	if err != nil {
		t.Fatal(err)
	}
	for path, into := range map[string]any{"items.price": &testv1.PlaceResponse{}, "items[0].price": &struct{ Items []*testv1.Item }{}} {
		want := "reply: " + path + " is int32 in the reply, and int64 in the message given: build both from one .proto"
		if err := decode.Into(reply, types, into); err == nil || err.Error() != want {
			t.Errorf("got %v, %v, want %s", into, err, want)
		}
	}
}

// holderOf returns a message type with one optional field, held, of a type in file.
func holderOf(tb testing.TB, held protoreflect.Descriptor, file protoreflect.FileDescriptor) protoreflect.MessageDescriptor {
	tb.Helper()
	resolver := new(protoregistry.Files)
	if err := resolver.RegisterFile(file); err != nil {
		tb.Fatal(err)
	}
	made, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("holder.proto"), Syntax: new("proto3"), Dependency: []string{file.Path()},
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Holder"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: new("held"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), TypeName: new("." + string(held.FullName())),
		}}}},
	}, resolver)
	if err != nil {
		tb.Fatal(err)
	}
	return made.Messages().Get(0)
}

// TestEachDifferenceOfTwoVersionsIsReported passes a message with two differences.
func TestEachDifferenceOfTwoVersionsIsReported(t *testing.T) {
	t.Parallel()
	other, types := changed(t, func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
		for _, field := range message("Item").GetField() {
			field.Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		}
	})
	holder := holderOf(t, (&testv1.Item{}).ProtoReflect().Descriptor(), other)
	_, err := request(holder, types, map[string]any{"held": &testv1.Item{Name: "tea", Price: 7}})
	var bad *encode.ArgumentError
	if !errors.As(err, &bad) || len(bad.Problems) != 2 || bad.Problems[0].Path != "held.name" || bad.Problems[1].Path != "held.price" || bad.Problems[0].Kind != encode.WrongType {
		t.Errorf("got %v", err)
	}
}

// TestFieldsThatAnotherSchemaHasInOneOneofAreRefused sets two fields, of which the other
// schema would lose one.
func TestFieldsThatAnotherSchemaHasInOneOneofAreRefused(t *testing.T) {
	t.Parallel()
	other, types := changed(t, func(message func(string) *descriptorpb.DescriptorProto, _ *descriptorpb.FileDescriptorProto) {
		address := message("Address")
		address.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: new("where")}}
		address.GetField()[0].OneofIndex, address.GetField()[1].OneofIndex = new(int32(0)), new(int32(0))
	})
	holder := holderOf(t, (&testv1.Address{}).ProtoReflect().Descriptor(), other)
	got, err := request(holder, types, map[string]any{"held": &testv1.Address{Street: "x", Code: "y"}})
	if want := "held.code is not in the oneof of street in the message given, and in the oneof of street in the schema"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
}

// TestAGeneratedEnumIsNoOtherValue passes a number that is another value in the schema.
func TestAGeneratedEnumIsNoOtherValue(t *testing.T) {
	t.Parallel()
	other, types := changed(t, swapMoods)
	plan := encode.NewPlan("test.kinds.mirror", other.Messages().ByName("Optionals"), types)
	got, err := plan.Encode(map[string]any{"mood": testv1.Mood_MOOD_CALM})
	if err == nil || !strings.Contains(err.Error(), "mood has a number 1 that onecall.test.v1.Mood has for another value") {
		t.Errorf("got %v, %v", got, err)
	}
	reply, err := plan.Encode(map[string]any{"mood": "MOOD_CALM"})
	if err != nil {
		t.Fatal(err)
	}
	var into struct{ Mood testv1.Mood }
	if err := decode.Into(reply, types, &into); err == nil || !strings.Contains(err.Error(), "mood has a number that testv1.Mood has for another value") {
		t.Errorf("%v was decoded as %v, %v", reply, into, err)
	}
}

// TestAnEmptyAnyThatCameOutCanBeGivenAgain passes a decoded reply as an argument.
func TestAnEmptyAnyThatCameOutCanBeGivenAgain(t *testing.T) {
	t.Parallel()
	reply := &testv1.Choice{Kind: &testv1.Choice_Anything{Anything: &anypb.Any{}}}
	decoded := make(map[string]any)
	if err := decode.Into(reply, nil, &decoded); err != nil {
		t.Fatal(err)
	}
	got, err := request(reply.ProtoReflect().Descriptor(), nil, map[string]any{"anything": decoded["anything"]})
	if err != nil || !proto.Equal(got, reply) {
		t.Errorf("%v was given again as %v, %v", decoded["anything"], got, err)
	}
}

// request converts args to a request.
func request(desc protoreflect.MessageDescriptor, types protoargs.Resolver, args map[string]any) (proto.Message, error) {
	return encode.NewPlan("test.kinds.mirror", desc, types).Encode(args)
}
