package validate_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	pb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/interceptors/validate"
)

// schema returns the file of an API "a.A" with one method. messages are the messages that its
// request a.Root contains.
func schema(tb testing.TB, extensions []*descriptorpb.FieldDescriptorProto, messages ...*descriptorpb.DescriptorProto) protoreflect.FileDescriptor {
	tb.Helper()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:        new("a.proto"),
		Package:     new("a"),
		Syntax:      new("proto2"),
		Dependency:  []string{"buf/validate/validate.proto"},
		MessageType: append(messages, &descriptorpb.DescriptorProto{Name: new("Empty")}),
		Extension:   extensions,
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: new("A"),
			Method: []*descriptorpb.MethodDescriptorProto{
				{Name: new("Ask"), InputType: new(".a.Root"), OutputType: new(".a.Empty")},
				{Name: new("Answer"), InputType: new(".a.Empty"), OutputType: new(".a.Root")},
			},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		tb.Fatal(err)
	}
	return file
}

func message(name string, rules *pb.MessageRules, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
	made := &descriptorpb.DescriptorProto{Name: new(name), Field: fields}
	for i, field := range fields {
		field.Number = new(int32(i + 1))
	}
	if rules != nil {
		made.Options = &descriptorpb.MessageOptions{}
		proto.SetExtension(made.GetOptions(), pb.E_Message, rules)
	}
	return made
}

func field(name string, kind descriptorpb.FieldDescriptorProto_Type, rules *pb.FieldRules) *descriptorpb.FieldDescriptorProto {
	made := &descriptorpb.FieldDescriptorProto{
		Name:  new(name),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		Type:  kind.Enum(),
	}
	if rules != nil {
		made.Options = &descriptorpb.FieldOptions{}
		proto.SetExtension(made.GetOptions(), pb.E_Field, rules)
	}
	return made
}

func text(name string, rules *pb.FieldRules) *descriptorpb.FieldDescriptorProto {
	return field(name, descriptorpb.FieldDescriptorProto_TYPE_STRING, rules)
}

func holding(name, message string, rules *pb.FieldRules) *descriptorpb.FieldDescriptorProto {
	made := field(name, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, rules)
	made.TypeName = new(".a." + message)
	return made
}

func repeated(made *descriptorpb.FieldDescriptorProto) *descriptorpb.FieldDescriptorProto {
	made.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	return made
}

// mapping returns a message with a map from strings to messages.
func mapping(name, value string, rules *pb.FieldRules) *descriptorpb.DescriptorProto {
	made := message(name, nil, repeated(holding("by_word", name+".ByWordEntry", rules)))
	entry := message("ByWordEntry", nil, text("key", nil), holding("value", value, nil))
	entry.Options = &descriptorpb.MessageOptions{MapEntry: new(true)}
	made.NestedType = []*descriptorpb.DescriptorProto{entry}
	return made
}

func ruled(expression string) []*pb.Rule {
	return []*pb.Rule{pb.Rule_builder{Id: new("a.rule"), Expression: new(expression)}.Build()}
}

func onMessage(expression string) *pb.MessageRules {
	return pb.MessageRules_builder{Cel: ruled(expression)}.Build()
}

func onField(expression string) *pb.FieldRules {
	return pb.FieldRules_builder{Cel: ruled(expression)}.Build()
}

func numeric() *pb.FieldRules {
	return pb.FieldRules_builder{Int32: pb.Int32Rules_builder{Gt: new(int32(0))}.Build()}.Build()
}

func pattern(expression string) *pb.FieldRules {
	return pb.FieldRules_builder{String: pb.StringRules_builder{Pattern: new(expression)}.Build()}.Build()
}

func TestARuleThatDoesNotCompileIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		messages []*descriptorpb.DescriptorProto
		subject  string // "" if the rules compile
		says     string
	}{
		"no rules": {[]*descriptorpb.DescriptorProto{message("Root", nil, text("word", nil))}, "", ""},
		"a rule of a message": {
			[]*descriptorpb.DescriptorProto{message("Root", onMessage("this.nothing == 1"), text("word", nil))},
			"a.Root", "undefined field 'nothing'",
		},
		"a rule that is no expression": {
			[]*descriptorpb.DescriptorProto{message("Root", onMessage("this.word =="), text("word", nil))},
			"a.Root", "Syntax error",
		},
		"a rule that gives a number": {
			[]*descriptorpb.DescriptorProto{message("Root", nil, text("word", onField("size(this)")))},
			"a.Root.word", "wanted either bool or string",
		},
		"a rule of a field": {
			[]*descriptorpb.DescriptorProto{message("Root", nil, text("word", nil), text("other", onField("nothing")))},
			"a.Root.other", "undeclared reference to 'nothing'",
		},
		"a rule for another type": {
			[]*descriptorpb.DescriptorProto{message("Root", nil, text("word", numeric()))},
			"a.Root.word", `got "buf.validate.FieldRules.int32" on field "a.Root.word"`,
		},
		"a rule for another type, of elements": {
			[]*descriptorpb.DescriptorProto{message("Root", nil, repeated(text("words", pb.FieldRules_builder{Repeated: pb.RepeatedRules_builder{Items: numeric()}.Build()}.Build())))},
			"a.Root.words", `got "buf.validate.FieldRules.int32"`,
		},
		"a rule for another type, of keys": {
			[]*descriptorpb.DescriptorProto{mapping("Root", "Empty", pb.FieldRules_builder{Map: pb.MapRules_builder{Keys: numeric()}.Build()}.Build())},
			"a.Root.by_word", `got "buf.validate.FieldRules.int32"`,
		},
		"a pattern that is none": {
			[]*descriptorpb.DescriptorProto{message("Root", nil, text("word", pattern("(")))},
			"a.Root.word", "missing closing )",
		},
		"a oneof of fields that are not there": {
			[]*descriptorpb.DescriptorProto{message("Root", pb.MessageRules_builder{Oneof: []*pb.MessageOneofRule{pb.MessageOneofRule_builder{Fields: []string{"nothing"}}.Build()}}.Build(), text("word", nil))},
			"a.Root", "field nothing not found",
		},
		"a field of a message in a message": {
			[]*descriptorpb.DescriptorProto{
				message("Root", nil, holding("middle", "Middle", nil)),
				message("Middle", nil, holding("leaf", "Leaf", nil)),
				message("Leaf", nil, text("word", numeric())),
			},
			"a.Leaf.word", "",
		},
		"a message in a list": {
			[]*descriptorpb.DescriptorProto{
				message("Root", nil, text("word", nil), repeated(holding("leaves", "Leaf", nil))),
				message("Leaf", onMessage("nothing"), text("word", nil)),
			},
			"a.Leaf", "undeclared reference",
		},
		"a message in a map": {
			[]*descriptorpb.DescriptorProto{
				mapping("Root", "Leaf", nil),
				message("Leaf", nil, text("word", onField("nothing"))),
			},
			"a.Leaf.word", "undeclared reference",
		},
		"a message that holds itself": {
			[]*descriptorpb.DescriptorProto{
				message("Root", nil, holding("left", "Leaf", nil)),
				message("Leaf", onMessage("nothing"), holding("root", "Root", nil), holding("leaf", "Leaf", nil)),
			},
			"a.Leaf", "undeclared reference",
		},
		"a rule that no empty message can be held to": {
			[]*descriptorpb.DescriptorProto{message("Root", onMessage("this.words[0] == ''"), repeated(text("words", nil)), text("word", onField("nothing")))},
			"a.Root.word", "undeclared reference",
		},
		"a predefined rule that nobody knows": {
			[]*descriptorpb.DescriptorProto{message("Root", nil, text("word", predefined()))},
			"a.Root.word", "unknown rules in buf.validate.StringRules",
		},
		"a rule in a field that is ignored": {
			[]*descriptorpb.DescriptorProto{
				message("Root", nil, holding("leaf", "Leaf", pb.FieldRules_builder{Ignore: pb.Ignore_IGNORE_ALWAYS.Enum()}.Build())),
				message("Leaf", onMessage("nothing")),
			},
			"", "",
		},
	}
	for title, test := range tests {
		for _, name := range []protoreflect.Name{"Ask", "Answer"} {
			t.Run(title+" of "+string(name), func(t *testing.T) {
				t.Parallel()
				method := schema(t, nil, test.messages...).Services().Get(0).Methods().ByName(name)
				_, err := validate.NewCompiler(protoregistry.GlobalTypes).Compile("a.ask", method)
				var fault *validate.RuleError
				if test.subject == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if !errors.As(err, &fault) || fault.Subject != test.subject || fault.Cause == nil || !errors.Is(err, fault.Cause) {
					t.Fatalf("error = %v, want a RuleError of %s", err, test.subject)
				}
				if !strings.HasPrefix(err.Error(), test.subject+": a validation rule does not compile: ") || !strings.Contains(err.Error(), test.says) {
					t.Errorf("error = %v\nwant it to hold %q", err, test.says)
				}
			})
		}
	}
}

func TestAOneofThatIsRequiredIsRuleEnough(t *testing.T) {
	t.Parallel()
	one := text("one", nil)
	one.OneofIndex = new(int32(0))
	root := message("Root", nil, one)
	choice := &descriptorpb.OneofDescriptorProto{Name: new("choice"), Options: &descriptorpb.OneofOptions{}}
	proto.SetExtension(choice.GetOptions(), pb.E_Oneof, pb.OneofRules_builder{Required: new(true)}.Build())
	root.OneofDecl = []*descriptorpb.OneofDescriptorProto{choice}
	method, err := validate.NewCompiler(protoregistry.GlobalTypes).Compile("a.ask", schema(t, nil, root).Services().Get(0).Methods().Get(0))
	if err != nil {
		t.Fatal(err)
	}
	if got := broken(method.CheckRequest(nil)); !slices.Equal(got, []string{"choice required"}) {
		t.Errorf("violations = %q", got)
	}
}

func TestRulesThatCannotBeReadAreAnError(t *testing.T) {
	t.Parallel()
	garbage := protowire.AppendBytes(protowire.AppendTag(nil, pb.E_Field.TypeDescriptor().Number(), protowire.BytesType), []byte{0xff})
	inField, inMessage := text("word", nil), message("Root", nil, text("word", nil))
	inField.Options, inMessage.Options = &descriptorpb.FieldOptions{}, &descriptorpb.MessageOptions{}
	inField.GetOptions().ProtoReflect().SetUnknown(garbage)
	inMessage.GetOptions().ProtoReflect().SetUnknown(garbage)
	for subject, root := range map[string]*descriptorpb.DescriptorProto{
		"a.Root.word": message("Root", nil, inField),
		"a.Root":      inMessage,
	} {
		t.Run(subject, func(t *testing.T) {
			_, err := validate.NewCompiler(protoregistry.GlobalTypes).Compile("a.ask", schema(t, nil, root).Services().Get(0).Methods().Get(0))
			fault, ok := errors.AsType[*validate.RuleError](err)
			if !ok || fault.Subject != subject || !strings.Contains(err.Error(), "its validation rules cannot be read: ") {
				t.Errorf("error = %v, want a RuleError of %s", err, subject)
			}
		})
	}
}

// loud is the number of the extension for a predefined rule.
const loud = 1161

// predefined returns rules with only the predefined rule. A reader without the extension
// does not know it.
func predefined() *pb.FieldRules {
	rules := &pb.StringRules{}
	rules.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, loud, protowire.VarintType), 1))
	return pb.FieldRules_builder{String: rules}.Build()
}

// extension returns the extension for the predefined rule.
func extension(expression string) []*descriptorpb.FieldDescriptorProto {
	made := field("loud", descriptorpb.FieldDescriptorProto_TYPE_BOOL, nil)
	made.Number = new(int32(loud))
	made.Extendee = new(".buf.validate.StringRules")
	made.Options = &descriptorpb.FieldOptions{}
	proto.SetExtension(made.GetOptions(), pb.E_Predefined, pb.PredefinedRules_builder{Cel: ruled(expression)}.Build())
	return []*descriptorpb.FieldDescriptorProto{made}
}

func TestPredefinedRulesAreFoundWhereTheCompilerIsTold(t *testing.T) {
	t.Parallel()
	compile := func(t *testing.T, expression string) (validate.Method, protoreflect.MessageDescriptor, error) {
		t.Helper()
		file := schema(t, extension(expression), message("Root", nil, text("word", predefined())))
		files := &protoregistry.Files{}
		if err := files.RegisterFile(file); err != nil {
			t.Fatal(err)
		}
		method, err := validate.NewCompiler(dynamicpb.NewTypes(files)).Compile("a.ask", file.Services().Get(0).Methods().Get(0))
		return method, file.Messages().ByName("Root"), err
	}
	t.Run("and applied", func(t *testing.T) {
		t.Parallel()
		method, root, err := compile(t, "this.endsWith('!') ? '' : this + ' is not loud'")
		if err != nil {
			t.Fatal(err)
		}
		msg := dynamicpb.NewMessage(root)
		msg.Set(root.Fields().ByName("word"), protoreflect.ValueOfString("hush"))
		err = method.CheckRequest(msg)
		if got := broken(err); !slices.Equal(got, []string{"word a.rule"}) || !strings.Contains(err.Error(), "hush is not loud") {
			t.Errorf("error = %v", err)
		}
		msg.Set(root.Fields().ByName("word"), protoreflect.ValueOfString("hush!"))
		if err := method.CheckRequest(msg); err != nil {
			t.Error(err)
		}
	})
	t.Run("and their faults too", func(t *testing.T) {
		t.Parallel()
		_, _, err := compile(t, "nothing")
		var fault *validate.RuleError
		if !errors.As(err, &fault) || fault.Subject != "a.Root.word" || !strings.Contains(err.Error(), "undeclared reference to 'nothing'") {
			t.Errorf("error = %v", err)
		}
	})
}
