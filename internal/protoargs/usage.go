package protoargs

import (
	"slices"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/quote"
)

// maxSpelled is the depth of messages up to which fields are written out.
const maxSpelled = 3

// Usage returns an example of a correct call of an RPC: with all required parameters, and
// with the optional ones in a comment. The values are placeholders. They pass the API's
// rules or describe what the rules demand. desc is the descriptor of the request; nil if the
// schema is not known. The example has about 700 bytes at most.
func Usage(rpc string, desc protoreflect.MessageDescriptor) string {
	if desc == nil {
		return call(rpc, `"name": value, …`)
	}
	return (&Plan{rpc: rpc, request: compile(desc)}).Usage()
}

// Usage returns an example of a correct call of the plan's RPC: see [Usage].
func (p *Plan) Usage() string {
	var spell speller
	first, optional := spell.fields(p.request)
	room := maxUsage
	text := call(p.rpc, strings.Join(fitting(first, &room), ", "))
	if len(optional) > 0 {
		text += " // optional: " + strings.Join(fitting(optional, &room), ", ")
	}
	if demands := messageDemands(p.request.desc); len(demands) > 0 {
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
type speller []*message

// fields returns the fields of a message with placeholders: those that a call must set, and
// those that it may set.
func (s speller) fields(m *message) (first, optional []string) {
	oneofs := make(map[int][]string)
	for _, f := range m.fields {
		switch {
		case f.required || demanded(f.desc):
			first = append(first, s.field(f))
		case f.oneof < 0:
			optional = append(optional, s.field(f))
		default:
			oneofs[f.oneof] = append(oneofs[f.oneof], s.field(f))
		}
	}
	for i := range m.oneofs {
		required, others := members(m.desc.Oneofs().Get(i), oneofs[i])
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
		return "", listed(examples, "or")
	}
	if len(examples) == 1 {
		return examples[0], ""
	}
	return examples[0], "instead " + listed(examples[1:], "or")
}

func call(rpc, args string) string {
	return "bus.Call(ctx, " + quote.Quoted(rpc, maxName) + ", framework.Args{" + args + "})"
}

// field returns a field's name with a placeholder.
func (s speller) field(f *field) string {
	rules := rulesOf(f.desc)
	value := ""
	switch f.shape {
	case list:
		value = "[]any{" + s.value(f.value, rules.GetRepeated().GetItems()) + "}"
		value = described(value, sizeDemands(rules, rules.GetRepeated().GetMinItems(), "items"))
	case mapped:
		value = "map[" + keyType(f.key.kind) + "]any{" + s.value(f.key, rules.GetMap().GetKeys()) + ": " + s.value(f.value, rules.GetMap().GetValues()) + "}"
		value = described(value, sizeDemands(rules, rules.GetMap().GetMinPairs(), "pairs"))
	case single:
		value = s.value(f.value, rules)
	}
	return `"` + quote.Clip(f.name, maxNameEcho) + `": ` + value
}

// sizeDemands returns the demands for a list or map that are not met by one element.
func sizeDemands(rules *validate.FieldRules, least uint64, unit string) []string {
	demands := expressions(rules.GetCel(), rules.GetCelExpression())
	if least > 1 {
		demands = append(demands, amount(&least, nil, unit))
	}
	return demands
}

// value returns a placeholder for a value. The rules may be nil.
func (s speller) value(t *valueType, rules *validate.FieldRules) string {
	switch t.kind {
	case protoreflect.StringKind:
		return textExample(rules)
	case protoreflect.BytesKind:
		return described("[]byte{…}", otherDemands(rules))
	case protoreflect.BoolKind:
		if rules.GetBool() != nil && rules.GetBool().Const != nil {
			return strconv.FormatBool(rules.GetBool().GetConst())
		}
		return described("true", expressions(rules.GetCel(), rules.GetCelExpression()))
	case protoreflect.EnumKind:
		return enumExample(rules, t.enum)
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if t.message.special == wrapper {
			return s.value(t.message.fields[0].value, rules)
		}
		return described(s.message(t.message), append(otherDemands(rules), messageDemands(t.message.desc)...))
	default:
		return numberExample(rules, t.kind)
	}
}

func (s speller) message(m *message) string {
	switch m.special {
	case timestamp:
		return "time.Now()"
	case duration:
		return "time.Minute"
	case object:
		return "map[string]any{…}"
	case jsonValue:
		return `"…"`
	case jsonList:
		return "[]any{…}"
	case fieldMask:
		return `[]string{"…"}`
	case anyMessage:
		return "message"
	case wrapper:
		return s.value(m.fields[0].value, nil)
	default:
		return "framework.Args{" + s.inner(m) + "}"
	}
}

// inner returns the required fields of a message inside another, if rules demand anything
// of them. Otherwise it returns "…".
func (s speller) inner(m *message) string {
	if len(m.fields) == 0 {
		return ""
	}
	if len(s) >= maxSpelled || slices.Contains(s, m) || !ruled(m, s) {
		return "…"
	}
	first, _ := append(slices.Clip(s), m).fields(m)
	text := strings.Join(first, ", ")
	if len(text) > maxUsage/4 {
		return "…"
	}
	return text
}

// ruled reports whether rules demand anything of the required fields of a message, or of
// messages in these.
func ruled(m *message, within speller) bool {
	if slices.Contains(within, m) {
		return false
	}
	for i := range m.oneofs {
		if oneofDemanded(m.desc.Oneofs().Get(i)) {
			return true
		}
	}
	for _, f := range m.fields {
		if demanded(f.desc) || f.required && (rulesOf(f.desc) != nil || f.value.message != nil && ruled(f.value.message, append(slices.Clip(within), m))) {
			return true
		}
	}
	return false
}

// keyType returns the Go type of a map's keys.
func keyType(kind protoreflect.Kind) string {
	switch kind {
	case protoreflect.StringKind, protoreflect.BoolKind:
		return kind.String()
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return "int32"
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return "int64"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return "uint32"
	default:
		return "uint64"
	}
}
