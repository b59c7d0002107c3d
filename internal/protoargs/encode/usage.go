package encode

import (
	"slices"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/quote"
)

const (
	// maxUsage bounds the bytes of the fields in an example.
	maxUsage = 700
	// maxSpelled is the depth of messages up to which fields are written out.
	maxSpelled = 3
)

// Usage returns an example of a correct call of an RPC: with all required parameters, and
// with the optional ones in a comment. The values are placeholders. They pass the API's
// rules or describe what the rules demand. desc is the descriptor of the request; nil if the
// schema is not known. The example has about 700 bytes at most.
func Usage(rpc string, desc protoreflect.MessageDescriptor) string {
	if desc == nil {
		return call(rpc, `"name": value, …`)
	}
	return NewPlan(rpc, desc, nil).Usage()
}

// Usage returns an example of a correct call of the plan's RPC: see [Usage].
func (p *Plan) Usage() string {
	var spell speller
	first, optional := spell.fields(p.request.Descriptor())
	room := maxUsage
	text := call(p.rpc, strings.Join(fitting(first, &room), ", "))
	if len(optional) > 0 {
		text += " // optional: " + strings.Join(fitting(optional, &room), ", ")
	}
	if demands := messageDemands(p.request.Descriptor()); len(demands) > 0 {
		text += " // rules: " + quote.Clip(strings.Join(demands, "; "), maxUsage/4)
	}
	return text
}

// fitting returns the texts that fit into room, in bytes, and "…" for the others.
func fitting(texts []string, room *int) []string {
	for i, text := range texts {
		if *room -= len(text) + len(", "); *room < 0 {
			return append(texts[:i:i], "…")
		}
	}
	return texts
}

// speller writes the parameters of a call. Its elements are the messages around them.
type speller []protoreflect.MessageDescriptor

// fields returns the fields of a message with placeholders: those that a call must set, and
// those that it may set.
func (s speller) fields(desc protoreflect.MessageDescriptor) (first, optional []string) {
	oneofs := make(map[protoreflect.OneofDescriptor][]string)
	for i := range desc.Fields().Len() {
		field := desc.Fields().Get(i)
		oneof := field.ContainingOneof()
		switch {
		case contract.Required(field) || demanded(field):
			first = append(first, s.field(field))
		case oneof == nil || oneof.IsSynthetic():
			optional = append(optional, s.field(field))
		default:
			oneofs[oneof] = append(oneofs[oneof], s.field(field))
		}
	}
	for i := range desc.Oneofs().Len() {
		oneof := desc.Oneofs().Get(i)
		required, others := members(oneof, oneofs[oneof])
		if required != "" {
			first = append(first, required)
		}
		if others != "" {
			optional = append(optional, others)
		}
	}
	return first, optional
}

// members returns the member of a oneof that a call must set, "" if it need not set one. The
// others are the members that a call may set, or may set instead.
func members(oneof protoreflect.OneofDescriptor, examples []string) (required, others string) {
	if len(examples) == 0 || !oneofDemanded(oneof) {
		return "", protoargs.Listed(examples, "or")
	}
	if len(examples) == 1 {
		return examples[0], ""
	}
	return examples[0], "instead " + protoargs.Listed(examples[1:], "or")
}

func call(rpc, args string) string {
	return "bus.Call(ctx, " + quote.Quoted(rpc, maxName) + ", framework.Args{" + args + "})"
}

// field returns a field's name with a placeholder.
func (s speller) field(field protoreflect.FieldDescriptor) string {
	rules := rulesOf(field)
	var value string
	switch {
	case field.IsList():
		value = "[]any{" + s.value(field, rules.GetRepeated().GetItems()) + "}"
		value = described(value, sizeDemands(rules, rules.GetRepeated().GetMinItems(), "items"))
	case field.IsMap():
		key := field.MapKey()
		value = "map[" + goType(key).String() + "]any{" + s.value(key, rules.GetMap().GetKeys()) + ": " + s.value(field.MapValue(), rules.GetMap().GetValues()) + "}"
		value = described(value, sizeDemands(rules, rules.GetMap().GetMinPairs(), "pairs"))
	default:
		value = s.value(field, rules)
	}
	return `"` + quote.Clip(string(field.Name()), protoargs.MaxName) + `": ` + value
}

// sizeDemands returns the demands for a list or map that are not met by one element.
func sizeDemands(rules *validate.FieldRules, least uint64, unit string) []string {
	demands := expressions(rules)
	if least > 1 {
		demands = append(demands, amount(&least, nil, unit))
	}
	return demands
}

// value returns a placeholder for a value of a field, or for an element of its list. The
// rules may be nil.
func (s speller) value(field protoreflect.FieldDescriptor, rules *validate.FieldRules) string {
	switch field.Kind() {
	case protoreflect.StringKind:
		return textExample(rules)
	case protoreflect.BytesKind:
		return described("[]byte{…}", otherDemands(rules))
	case protoreflect.BoolKind:
		if rules.GetBool() != nil && rules.GetBool().Const != nil {
			return strconv.FormatBool(rules.GetBool().GetConst())
		}
		return described("true", expressions(rules))
	case protoreflect.EnumKind:
		return enumExample(rules, field.Enum())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.message(field.Message(), rules)
	default:
		return numberExample(rules, field)
	}
}

func (s speller) message(desc protoreflect.MessageDescriptor, rules *validate.FieldRules) string {
	var value string
	switch special := protoargs.SpecialOf(desc); special {
	case protoargs.Wrapper:
		return s.value(desc.Fields().Get(0), rules)
	case protoargs.Ordinary:
		value = "framework.Args{" + s.inner(desc) + "}"
	default:
		value = goForms[special].example
	}
	return described(value, append(otherDemands(rules), messageDemands(desc)...))
}

// inner returns the required fields of a message inside another, if rules demand anything
// of them. Otherwise it returns "…".
func (s speller) inner(desc protoreflect.MessageDescriptor) string {
	if desc.Fields().Len() == 0 {
		return ""
	}
	if len(s) >= maxSpelled || slices.Contains(s, desc) || !ruled(desc, s) {
		return "…"
	}
	first, _ := append(slices.Clip(s), desc).fields(desc)
	text := strings.Join(first, ", ")
	if len(text) > maxUsage/4 {
		return "…"
	}
	return text
}

// ruled reports whether rules demand anything of the required fields of a message, or of
// messages in these.
func ruled(desc protoreflect.MessageDescriptor, within speller) bool {
	if slices.Contains(within, desc) {
		return false
	}
	for i := range desc.Oneofs().Len() {
		if oneofDemanded(desc.Oneofs().Get(i)) {
			return true
		}
	}
	for i := range desc.Fields().Len() {
		field := desc.Fields().Get(i)
		if demanded(field) || contract.Required(field) && (rulesOf(field) != nil || field.Message() != nil && ruled(field.Message(), append(slices.Clip(within), desc))) {
			return true
		}
	}
	return false
}
