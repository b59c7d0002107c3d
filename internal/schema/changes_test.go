package schema_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/schema"
)

// changesOf returns the changes from one version of test.echo to another.
func changesOf(before, after protoreflect.ServiceDescriptor) []schema.Difference {
	return schema.Changes("test.echo", before, "test.echo", after)
}

func TestChangesHaveAKindAndWhatIsIncompatible(t *testing.T) {
	t.Parallel()
	base := edited(t, func(*descriptorpb.FileDescriptorProto) {})
	for name, test := range map[string]struct {
		change func(*descriptorpb.FileDescriptorProto)
		want   []schema.Difference
	}{
		"nothing": {func(*descriptorpb.FileDescriptorProto) {}, nil},
		"idempotency": {
			func(f *descriptorpb.FileDescriptorProto) { f.Service[0].Method[0].Options = nil },
			[]schema.Difference{{schema.IdempotencyRemoved, "test.echo.echo", "idempotent", "not idempotent"}},
		},
		"a field's number": {
			func(f *descriptorpb.FileDescriptorProto) { f.MessageType[reply].Field[0].Number = new(int32(2)) },
			[]schema.Difference{{schema.FieldRenumbered, "test.echo.echo: reply.text", "number 1", "number 2"}},
		},
		"a field's name": {
			func(f *descriptorpb.FileDescriptorProto) { f.MessageType[reply].Field[0].Name = new("said") },
			[]schema.Difference{{schema.FieldRenamed, "test.echo.echo: reply.text", "number 1", "named said"}},
		},
		"a message's name": {
			func(f *descriptorpb.FileDescriptorProto) {
				f.MessageType[reply].Name = new("EchoReply")
				f.Service[0].Method[0].OutputType = new(".onecall.test.v1.EchoReply")
			},
			[]schema.Difference{{schema.MessageRenamed, "test.echo.echo: reply", "onecall.test.v1.EchoResponse", "onecall.test.v1.EchoReply"}},
		},
		"go_package": {
			func(f *descriptorpb.FileDescriptorProto) { f.Options.GoPackage = new("example.com/echo") },
			[]schema.Difference{{schema.GoPackageChanged, "test.echo", "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1;testv1", "example.com/echo"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := edited(t, test.change)
			got := changesOf(base, after)
			if !slices.Equal(got, test.want) {
				t.Errorf("Changes = %+v, want %+v", got, test.want)
			}
			incompatible := slices.DeleteFunc(got, func(d schema.Difference) bool { return !d.Kind.Effect().Incompatible })
			if compared := schema.Compare("test.echo", base, after); !slices.Equal(compared, incompatible) {
				t.Errorf("Compare = %+v, and the incompatible changes are %+v", compared, incompatible)
			}
		})
	}
}

func TestAFieldThatIsGoneBreaksCodeAndNamesOnly(t *testing.T) {
	t.Parallel()
	before := edited(t, func(f *descriptorpb.FileDescriptorProto) { optional(f.GetMessageType()[reply]) })
	after := edited(t, func(f *descriptorpb.FileDescriptorProto) { f.MessageType[reply].Field = nil })
	got := changesOf(before, after)
	if !slices.Equal(got, []schema.Difference{{schema.FieldRemoved, "test.echo.echo: reply.text", "a field", ""}}) {
		t.Errorf("Changes = %+v", got)
	}
	if compared := schema.Compare("test.echo", before, after); len(compared) != 0 {
		t.Errorf("Compare = %+v", compared)
	}
	if effect := schema.FieldRemoved.Effect(); effect.Wire || !effect.Code || !effect.Names || effect.Remedy == "" {
		t.Errorf("the effect is %+v", effect)
	}
}

// TestThePageHasTheEffectOfEachKind compares the table of docs/command.md with the effects.
func TestThePageHasTheEffectOfEachKind(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| change | breaks wire | code | names | `StrictSchema` |\n| --- | --- | --- | --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	lines := strings.Split(table, "\n")
	if len(lines) != schema.Kinds() {
		t.Errorf("the table has %d lines, and there are %d kinds", len(lines), schema.Kinds())
	}
	for _, line := range lines {
		cells := strings.Split(line, "|")
		if len(cells) != 7 {
			t.Fatalf("the line is %q", line)
		}
		x := func(column int) bool { return strings.TrimSpace(cells[column]) == "x" }
		effect := schema.Kind(strings.TrimSpace(cells[1])).Effect()
		if want := (schema.Effect{Wire: x(2), Code: x(3), Names: x(4), Incompatible: x(5), Remedy: effect.Remedy}); effect != want || effect.Remedy == "" {
			t.Errorf("the page has %q, and the effect is %+v", line, effect)
		}
	}
}
