package schemas

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onecall-dev/onecall/internal/schema"
)

// RuleTexts writes protovalidate's rules for people. Types has the predefined rules,
// which are extensions.
type RuleTexts struct{ Types schema.Types }

// Field writes the rules of a field.
func (r RuleTexts) Field(field protoreflect.FieldDescriptor) []string {
	rules, ok := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	if !ok || rules == nil {
		return nil
	}
	return r.write("", r.read(rules))
}

// Message writes the rules that apply to a message or to its oneofs.
func (r RuleTexts) Message(message protoreflect.MessageDescriptor) []string {
	var out []string
	if rules, ok := proto.GetExtension(message.Options(), validate.E_Message).(*validate.MessageRules); ok && rules != nil {
		out = r.write("", r.read(rules))
	}
	for i := range message.Oneofs().Len() {
		oneof := message.Oneofs().Get(i)
		if rules, ok := proto.GetExtension(oneof.Options(), validate.E_Oneof).(*validate.OneofRules); ok && rules != nil {
			out = append(out, r.write("oneof "+string(oneof.Name())+": ", r.read(rules))...)
		}
	}
	return out
}

// read parses rules again with Types, because the first parser may not have known the
// predefined rules.
func (r RuleTexts) read(rules proto.Message) protoreflect.Message {
	data, err := proto.Marshal(rules)
	if err != nil {
		return rules.ProtoReflect()
	}
	known := rules.ProtoReflect().New()
	if (proto.UnmarshalOptions{Resolver: r.Types}).Unmarshal(data, known.Interface()) != nil {
		return rules.ProtoReflect()
	}
	return known
}

// write writes the rules that are set, in the order of their numbers.
func (r RuleTexts) write(prefix string, rules protoreflect.Message) []string {
	var fields []protoreflect.FieldDescriptor
	rules.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fields = append(fields, field)
		return true
	})
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.Number(), b.Number()) })
	var out []string
	for _, field := range fields {
		name, value := prefix+string(field.Name()), rules.Get(field)
		if field.IsExtension() {
			name = prefix + "(" + string(field.FullName()) + ")"
		}
		switch {
		case field.IsList():
			for i := range value.List().Len() {
				out = append(out, r.value(name, field, value.List().Get(i))...)
			}
		case field.IsMap():
		default:
			out = append(out, r.value(name, field, value)...)
		}
	}
	return out
}

func (r RuleTexts) value(name string, field protoreflect.FieldDescriptor, value protoreflect.Value) []string {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		switch rule := value.Message().Interface().(type) {
		case *validate.Rule:
			return []string{name + ": " + rule.GetExpression()}
		case *durationpb.Duration:
			return []string{name + ": " + rule.AsDuration().String()}
		case *timestamppb.Timestamp:
			return []string{name + ": " + rule.AsTime().Format(time.RFC3339Nano)}
		}
		return r.write(name+".", value.Message())
	case protoreflect.StringKind:
		return []string{fmt.Sprintf("%s: %q", name, value.String())}
	case protoreflect.EnumKind:
		if known := field.Enum().Values().ByNumber(value.Enum()); known != nil {
			return []string{name + ": " + string(known.Name())}
		}
		return []string{fmt.Sprintf("%s: %d", name, value.Enum())}
	default:
		return []string{fmt.Sprintf("%s: %v", name, value.Interface())}
	}
}
