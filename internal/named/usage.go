package named

import (
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Usage spells the right call of an RPC: with all that must be given, then as a
// comment what may be. Placeholders stand for values: they pass the API's rules,
// or say what the rules demand. Desc is the request's; nil
// when the schema is not known. It has some 700 bytes at most.
func Usage(rpc string, desc protoreflect.MessageDescriptor) string {
	if desc == nil {
		return call(rpc, `"name": value, …`)
	}
	return (&Plan{rpc: rpc, request: compile(desc)}).Usage()
}

// Usage spells the right call of the plan's RPC: see [Usage].
func (p *Plan) Usage() string {
	var first, optional []string
	room := maxUsage
	add := func(to *[]string, text string) {
		if room < 0 {
			return
		}
		if room -= len(text) + 2; room < 0 {
			text = "…"
		}
		*to = append(*to, text)
	}
	for _, f := range p.request.fields {
		if f.required || demanded(f.desc) {
			add(&first, f.example())
		}
	}
	oneofs := make(map[int][]string)
	for _, f := range p.request.fields {
		switch {
		case f.required, demanded(f.desc):
		case f.oneof < 0:
			add(&optional, f.example())
		default:
			oneofs[f.oneof] = append(oneofs[f.oneof], f.example())
		}
	}
	for i := range p.request.oneofs {
		required, others := members(p.request.desc.Oneofs().Get(i), oneofs[i])
		if required != "" {
			add(&first, required)
		}
		if others != "" {
			add(&optional, others)
		}
	}
	text := call(p.rpc, strings.Join(first, ", "))
	if len(optional) > 0 {
		text += " // optional: " + strings.Join(optional, ", ")
	}
	if demands := messageDemands(p.request.desc); len(demands) > 0 {
		text += " // rules: " + clip(strings.Join(demands, "; "), maxUsage/4)
	}
	return text
}

// members returns which of the members of a oneof a call must have, "" if it need
// have none, and those that it may have, or have instead.
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
	return "bus.Call(ctx, " + quote(rpc, maxName) + ", framework.Args{" + args + "})"
}

// example spells a field with a placeholder.
func (f *field) example() string {
	rules := rulesOf(f.desc)
	value := ""
	switch f.shape {
	case list:
		value = "[]any{" + f.value.example(rules.GetRepeated().GetItems()) + "}"
		value = described(value, sizeDemands(rules, rules.GetRepeated().GetMinItems(), "items"))
	case dict:
		value = "map[" + keyType(f.key.kind) + "]any{" + f.key.example(rules.GetMap().GetKeys()) + ": " + f.value.example(rules.GetMap().GetValues()) + "}"
		value = described(value, sizeDemands(rules, rules.GetMap().GetMinPairs(), "pairs"))
	case single:
		value = f.value.example(rules)
	}
	return `"` + clip(f.name, maxNameEcho) + `": ` + value
}

// sizeDemands returns what the rules of a list or map demand beyond one element.
func sizeDemands(rules *validate.FieldRules, least uint64, unit string) []string {
	demands := expressions(rules.GetCel(), rules.GetCelExpression())
	if least > 1 {
		demands = append(demands, amount(&least, nil, unit))
	}
	return demands
}

// example returns a placeholder for a value with rules, which may be nil.
func (t *valueType) example(rules *validate.FieldRules) string {
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
			return t.message.fields[0].value.example(rules)
		}
		return described(t.message.example(), otherDemands(rules))
	default:
		return numberExample(rules, t.kind)
	}
}

func (m *message) example() string {
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
	case anything:
		return "message"
	case wrapper:
		return m.fields[0].value.example(nil)
	default:
		if len(m.fields) == 0 {
			return "framework.Args{}"
		}
		return "framework.Args{…}"
	}
}

// keyType gives the Go type of a map's key.
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
