package named

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Usage spells the right call of an RPC: with all that must be given, then as a
// comment what may be. Placeholders stand for values. Desc is the request's; nil
// when the schema is not known. It has some 700 bytes at most.
func Usage(rpc string, desc protoreflect.MessageDescriptor) string {
	if desc == nil {
		return call(rpc, `"name": value, …`)
	}
	return (&Plan{rpc: rpc, request: compile(desc)}).Usage()
}

// Usage spells the right call of the plan's RPC: see [Usage].
func (p *Plan) Usage() string {
	var required, optional []string
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
		if f.required {
			add(&required, f.example())
		}
	}
	oneofs := make(map[int][]string)
	for _, f := range p.request.fields {
		switch {
		case f.required:
		case f.oneof < 0:
			add(&optional, f.example())
		default:
			oneofs[f.oneof] = append(oneofs[f.oneof], f.example())
		}
	}
	for i := range p.request.oneofs {
		if members := oneofs[i]; len(members) > 0 {
			add(&optional, listed(members, "or"))
		}
	}
	text := call(p.rpc, strings.Join(required, ", "))
	if len(optional) > 0 {
		text += " // optional: " + strings.Join(optional, ", ")
	}
	return text
}

func call(rpc, args string) string {
	return "bus.Call(ctx, " + quote(rpc, maxName) + ", framework.Args{" + args + "})"
}

// example spells a field with a placeholder.
func (f *field) example() string {
	value := f.value.example()
	switch f.shape {
	case list:
		value = "[]any{" + value + "}"
	case dict:
		value = "map[" + keyType(f.key.kind) + "]any{" + f.key.example() + ": " + value + "}"
	case single:
	}
	return `"` + clip(f.name, maxNameEcho) + `": ` + value
}

// example gives a placeholder for a value.
func (t *valueType) example() string {
	switch t.kind {
	case protoreflect.StringKind:
		return `"…"`
	case protoreflect.BytesKind:
		return "[]byte{…}"
	case protoreflect.BoolKind:
		return "true"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "0.0"
	case protoreflect.EnumKind:
		return `"` + anyName(t.enum) + `"`
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return t.message.example()
	default:
		return "0"
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
		return m.fields[0].value.example()
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
