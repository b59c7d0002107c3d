package schema_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/schema"
)

// Message indexes in EchoService's .proto file.
const (
	request = iota // EchoRequest
	reply          // EchoResponse
)

func newField(name string, number int32, change func(*descriptorpb.FieldDescriptorProto)) *descriptorpb.FieldDescriptorProto {
	field := &descriptorpb.FieldDescriptorProto{
		Name: new(name), Number: new(number),
		Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
	if change != nil {
		change(field)
	}
	return field
}

// optional makes the only field of a message optional.
func optional(message *descriptorpb.DescriptorProto) {
	message.Field[0].Proto3Optional, message.Field[0].OneofIndex = new(true), proto.Int32(0)
	message.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: new("_text")}}
}

func TestOnlyIncompatibleDifferencesAreFound(t *testing.T) {
	t.Parallel()
	base := edited(t, func(*descriptorpb.FileDescriptorProto) {})
	for name, test := range map[string]struct {
		change func(*descriptorpb.FileDescriptorProto)
		// there are the differences for a caller with the base schema and an instance with the
		// changed one. here are those in the other direction.
		there, here []string
	}{
		"a field's number": {
			func(f *descriptorpb.FileDescriptorProto) { f.MessageType[reply].Field[0].Number = proto.Int32(2) },
			[]string{"test.echo.echo: reply.text is number 1 here and number 2 there"},
			[]string{"test.echo.echo: reply.text is number 2 here and number 1 there"},
		},
		"a field's type": {
			func(f *descriptorpb.FileDescriptorProto) {
				f.MessageType[reply].Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
			},
			[]string{"test.echo.echo: reply.text is string here and bytes there"},
			[]string{"test.echo.echo: reply.text is bytes here and string there"},
		},
		"a field's cardinality": {
			func(f *descriptorpb.FileDescriptorProto) {
				f.MessageType[reply].Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			},
			[]string{"test.echo.echo: reply.text is one value here and repeated there"},
			[]string{"test.echo.echo: reply.text is repeated here and one value there"},
		},
		"a field's presence": {
			func(f *descriptorpb.FileDescriptorProto) { optional(f.GetMessageType()[reply]) },
			[]string{"test.echo.echo: reply.text is without presence here and with presence there"},
			[]string{"test.echo.echo: reply.text is with presence here and without presence there"},
		},
		"a field's name": {
			func(f *descriptorpb.FileDescriptorProto) { f.MessageType[reply].Field[0].Name = new("said") },
			[]string{"test.echo.echo: reply.text is number 1 here and named said there"},
			[]string{"test.echo.echo: reply.said is number 1 here and named text there"},
		},
		"a required field of a request": {
			func(f *descriptorpb.FileDescriptorProto) {
				f.MessageType[request].Field = append(f.MessageType[request].Field, newField("more", 2, nil))
			},
			[]string{"test.echo.echo: request.more is required there and unknown here"},
			[]string{"test.echo.echo: request.more is required here and gone there"},
		},
		"a required field of a reply": {
			func(f *descriptorpb.FileDescriptorProto) {
				f.MessageType[reply].Field = append(f.MessageType[reply].Field, newField("more", 2, nil))
			},
			nil,
			[]string{"test.echo.echo: reply.more is required here and gone there"},
		},
		"a repeated field": {
			func(f *descriptorpb.FileDescriptorProto) {
				f.MessageType[request].Field = append(f.MessageType[request].Field, newField("more", 2, func(field *descriptorpb.FieldDescriptorProto) {
					field.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
				}))
			},
			nil, nil,
		},
		"an RPC": {
			func(f *descriptorpb.FileDescriptorProto) { f.Service[0].Method = f.GetService()[0].GetMethod()[1:] },
			[]string{"test.echo.echo is an RPC here and gone there"},
			nil,
		},
		"an RPC's shape": {
			func(f *descriptorpb.FileDescriptorProto) { f.Service[0].Method[0].ServerStreaming = new(true) },
			[]string{"test.echo.echo is one message to one message here and one message to a stream there"},
			[]string{"test.echo.echo is one message to a stream here and one message to one message there"},
		},
		"the service's name": {
			func(f *descriptorpb.FileDescriptorProto) { f.Service[0].Name = new("EchoesService") },
			[]string{"test.echo.echo is /onecall.test.v1.EchoService here and /onecall.test.v1.EchoesService there"},
			[]string{"test.echo.echo is /onecall.test.v1.EchoesService here and /onecall.test.v1.EchoService there"},
		},
		"a rule": {
			func(f *descriptorpb.FileDescriptorProto) { f.MessageType[request].Field[0].Options = nil },
			nil, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			other := edited(t, test.change)
			if got := texts(schema.Compare("test.echo", base, other)); !slices.Equal(got, test.there) {
				t.Errorf("%s changed there: %q, want %q", name, got, test.there)
			}
			if got := texts(schema.Compare("test.echo", other, base)); !slices.Equal(got, test.here) {
				t.Errorf("%s changed here: %q, want %q", name, got, test.here)
			}
		})
	}
}

func TestDifferencesInsideMessagesAndEnumsAreFound(t *testing.T) {
	t.Parallel()
	nested := func(number int32, values ...string) func(*descriptorpb.FileDescriptorProto) {
		return func(f *descriptorpb.FileDescriptorProto) {
			enum := &descriptorpb.EnumDescriptorProto{Name: new("Colour")}
			for i, value := range values {
				enum.Value = append(enum.Value, &descriptorpb.EnumValueDescriptorProto{Name: new(value), Number: new(int32(i))})
			}
			f.EnumType = append(f.EnumType, enum)
			f.MessageType = append(f.MessageType, &descriptorpb.DescriptorProto{Name: new("Inner"), Field: []*descriptorpb.FieldDescriptorProto{
				newField("deep", number, nil),
				newField("colour", 7, func(field *descriptorpb.FieldDescriptorProto) {
					field.Type, field.TypeName = descriptorpb.FieldDescriptorProto_TYPE_ENUM.Enum(), new(".onecall.test.v1.Colour")
				}),
				newField("again", 8, func(field *descriptorpb.FieldDescriptorProto) { // Inner contains itself
					field.Type, field.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), new(".onecall.test.v1.Inner")
				}),
			}})
			f.MessageType[request].Field = append(f.MessageType[request].Field, newField("inner", 2, func(field *descriptorpb.FieldDescriptorProto) {
				field.Type, field.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), new(".onecall.test.v1.Inner")
			}))
		}
	}
	built := edited(t, nested(1, "COLOUR_UNSPECIFIED", "COLOUR_RED", "COLOUR_BLUE"))
	served := edited(t, nested(2, "COLOUR_UNSPECIFIED", "COLOUR_BLUE"))
	want := []string{
		"test.echo.echo: request.inner.deep is number 1 here and number 2 there",
		"test.echo.echo: request.inner.colour COLOUR_RED is number 1 here and gone there",
		"test.echo.echo: request.inner.colour COLOUR_BLUE is number 2 here and number 1 there",
	}
	if got := texts(schema.Compare("test.echo", built, served)); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// TestTheSyntaxOfPresenceIsNoDifference compares an optional field of proto3 with a field of
// an edition that has presence.
func TestTheSyntaxOfPresenceIsNoDifference(t *testing.T) {
	t.Parallel()
	proto3 := edited(t, func(f *descriptorpb.FileDescriptorProto) { optional(f.GetMessageType()[reply]) })
	edition := edited(t, func(f *descriptorpb.FileDescriptorProto) {
		f.Syntax, f.Edition = new("editions"), descriptorpb.Edition_EDITION_2023.Enum()
		for _, message := range f.GetMessageType() {
			for _, field := range message.GetField() {
				if message != f.GetMessageType()[reply] {
					field.Options = &descriptorpb.FieldOptions{Features: &descriptorpb.FeatureSet{FieldPresence: descriptorpb.FeatureSet_IMPLICIT.Enum()}}
				}
			}
		}
	})
	for _, found := range [][]schema.Difference{schema.Compare("test.echo", proto3, edition), schema.Compare("test.echo", edition, proto3)} {
		if len(found) > 0 {
			t.Errorf("found %q", texts(found))
		}
	}
}

func texts(found []schema.Difference) []string {
	var out []string
	for _, difference := range found {
		out = append(out, difference.String())
	}
	return out
}

// TestFieldsThatExcludeEachOtherOnOneSideAloneAreADifference joins two oneofs. A caller may
// have set a field of each.
func TestFieldsThatExcludeEachOtherOnOneSideAloneAreADifference(t *testing.T) {
	t.Parallel()
	oneofs := func(names []string, of ...int32) func(*descriptorpb.FileDescriptorProto) {
		return func(f *descriptorpb.FileDescriptorProto) {
			message := f.GetMessageType()[request]
			message.Field = nil
			for _, name := range names {
				message.OneofDecl = append(message.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: new(name)})
			}
			for i, index := range of {
				message.Field = append(message.Field, newField(string(rune('a'+i)), int32(i+1), func(field *descriptorpb.FieldDescriptorProto) {
					field.OneofIndex = new(index)
				}))
			}
		}
	}
	apart := edited(t, oneofs([]string{"x", "y"}, 0, 0, 1))
	joined := edited(t, oneofs([]string{"y"}, 0, 0, 0))
	named := edited(t, oneofs([]string{"one", "two"}, 0, 0, 1))
	for name, test := range map[string]struct {
		built, served protoreflect.ServiceDescriptor
		want          []string
	}{
		"joined":  {apart, joined, []string{"test.echo.echo: request.c is not in the oneof of a here and in the oneof of a there"}},
		"parted":  {joined, apart, []string{"test.echo.echo: request.c is in the oneof of a here and not in the oneof of a there"}},
		"renamed": {apart, named, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, difference := range schema.Compare("test.echo", test.built, test.served) {
				got = append(got, difference.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: %q, want %q", name, got, test.want)
			}
		})
	}
}
