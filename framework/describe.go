package framework

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/schemas"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/quote"
	"github.com/onecall-dev/onecall/internal/schema"
)

// Description describes an API as its .proto declares it.
type Description struct {
	// API is the bus name and Service the full proto name.
	API, Service string
	// Comment is the comment in the .proto, "" if its file was generated without
	// protoc-gen-onecall.
	Comment string
	// RPCs are in the order of the .proto.
	RPCs []RPCDescription
}

// RPCDescription describes an RPC as its .proto declares it.
type RPCDescription struct {
	// Name is the bus name, such as "auth.check_password", and Method gRPC's
	// path.
	Name, Method string
	Comment      string
	// Timeout is how long a call may take if it does not set another timeout. It is 0
	// for a stream, which has no timeout.
	Timeout time.Duration
	// Idempotency is protobuf's idempotency level: IDEMPOTENCY_UNKNOWN,
	// NO_SIDE_EFFECTS or IDEMPOTENT.
	Idempotency string
	// ClientStream reports whether requests are a stream, ServerStream whether
	// replies are.
	ClientStream, ServerStream bool
	// Parameters are the fields of the request, Reply the fields of the reply.
	Parameters, Reply []FieldDescription
	// ParameterRules and ReplyRules are the rules of the request and the reply that
	// apply to the message or to its oneofs, not to one field.
	ParameterRules, ReplyRules []string
}

// FieldDescription describes a field as its .proto declares it.
type FieldDescription struct {
	// Name is the name of the field, and of its parameter in a call by name.
	Name string
	// Type is written as in the .proto, such as "string", "repeated auth.v1.User"
	// or "map<string, int32>".
	Type string
	// Number is the field number.
	Number int32
	// Required reports whether a call by name must set the field.
	Required bool
	// Oneof is the name of the oneof that has the field, "" if there is none.
	Oneof string
	// Redacted reports whether the value is never shown, because the field has
	// debug_redact.
	Redacted bool
	// Rules are protovalidate's rules, such as "string.min_len: 1", in the order of
	// their numbers. The rules of the field's message type follow.
	Rules   []string
	Comment string
	// Fields are the fields of the field's message type. They are set only where the
	// type first occurs in the parameters or the reply, and never for the types of
	// protobuf itself.
	Fields []FieldDescription
	// Values are the names of the values if the field is an enum.
	Values []string
}

// Describe returns the description of an API. If the API's generated code is linked
// into the program, its .proto is read, otherwise the schema that an instance
// published in the registry. If the API is not known, the errors are those of
// [Bus.Call].
func (b *Bus) Describe(ctx context.Context, api string) (*Description, error) {
	if ctx == nil {
		return nil, callerr.Invalid("onecall: Describe", "the context is nil: give context.Background() if there is no other")
	}
	if err := contract.CheckName(api); err != nil {
		return nil, callerr.Invalid("onecall: Describe", "%v", err)
	}
	found, err := b.calls.Schema(ctx, api)
	if err != nil {
		return nil, err
	}
	read, err := contract.FromDescriptor(found.Service)
	if err != nil {
		return nil, callerr.Faulty(api, err)
	}
	return describe(found, read), nil
}

func describe(s *schema.Schema, api *contract.API) *Description {
	rules := schemas.RuleTexts{Types: s.Types}
	out := &Description{API: api.Name, Service: api.Service, Comment: s.Comment(s.Service)}
	for i, rpc := range api.RPCs {
		method := s.Service.Methods().Get(i)
		described := RPCDescription{
			Name: rpc.Name, Method: rpc.Method, Comment: s.Comment(method), Idempotency: rpc.Idempotency.String(),
			ClientStream: method.IsStreamingClient(), ServerStream: method.IsStreamingServer(),
			Parameters: describeFields(s, method.Input(), make(map[protoreflect.FullName]bool)), ParameterRules: rules.Message(method.Input()),
			Reply: describeFields(s, method.Output(), make(map[protoreflect.FullName]bool)), ReplyRules: rules.Message(method.Output()),
		}
		if !rpc.Stream {
			described.Timeout = timeout.Declared(rpc.Timeout, api.Timeout).Duration
		}
		out.RPCs = append(out.RPCs, described)
	}
	return out
}

// describeFields describes the fields of a message. It skips the fields of the types in
// done, which are described already: a schema can have the same type very many times.
func describeFields(s *schema.Schema, message protoreflect.MessageDescriptor, done map[protoreflect.FullName]bool) []FieldDescription {
	done[message.FullName()] = true
	rules := schemas.RuleTexts{Types: s.Types}
	var out []FieldDescription
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		described := FieldDescription{
			Name: string(field.Name()), Type: typeOf(field), Number: int32(field.Number()), Required: contract.Required(field),
			Rules: rules.Field(field), Comment: s.Comment(field), Redacted: fieldpath.Redacted(field),
		}
		if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
			described.Oneof = string(oneof.Name())
		}
		value := field
		if field.IsMap() {
			value = field.MapValue()
		}
		if inner := value.Message(); inner != nil && !done[inner.FullName()] && !strings.HasPrefix(string(inner.FullName()), "google.protobuf.") {
			described.Rules = append(described.Rules, rules.Message(inner)...)
			described.Fields = describeFields(s, inner, done)
		}
		if enum := value.Enum(); enum != nil {
			for i := range enum.Values().Len() {
				described.Values = append(described.Values, string(enum.Values().Get(i).Name()))
			}
		}
		out = append(out, described)
	}
	return out
}

// typeOf returns a field's type as the .proto writes it.
func typeOf(field protoreflect.FieldDescriptor) string {
	plain := func(field protoreflect.FieldDescriptor) string {
		switch {
		case field.Message() != nil:
			return string(field.Message().FullName())
		case field.Enum() != nil:
			return string(field.Enum().FullName())
		default:
			return field.Kind().String()
		}
	}
	switch {
	case field.IsMap():
		return fmt.Sprintf("map<%s, %s>", plain(field.MapKey()), plain(field.MapValue()))
	case field.IsList():
		return "repeated " + plain(field)
	case field.HasOptionalKeyword():
		return "optional " + plain(field)
	default:
		return plain(field)
	}
}

// String returns the description as text for people.
func (d *Description) String() string {
	var out strings.Builder
	comment(&out, "", d.Comment)
	fmt.Fprintf(&out, "%s (%s)\n", d.API, d.Service)
	for _, rpc := range d.RPCs {
		out.WriteString("\n")
		comment(&out, "", rpc.Comment)
		fmt.Fprintf(&out, "%s", rpc.Name)
		if rpc.Timeout > 0 {
			fmt.Fprintf(&out, ", within %v", rpc.Timeout)
		}
		if rpc.Idempotency != contract.IdempotencyUnknown.String() {
			fmt.Fprintf(&out, ", %s", rpc.Idempotency)
		}
		out.WriteString("\n")
		for _, side := range []struct {
			name   string
			stream bool
			fields []FieldDescription
			rules  []string
		}{{"parameters", rpc.ClientStream, rpc.Parameters, rpc.ParameterRules}, {"reply", rpc.ServerStream, rpc.Reply, rpc.ReplyRules}} {
			fmt.Fprintf(&out, "  %s", side.name)
			if side.stream {
				out.WriteString(", a stream")
			}
			for _, rule := range side.rules {
				out.WriteString(", " + printable(rule))
			}
			out.WriteString("\n")
			writeFields(&out, "    ", side.fields, side.name == "parameters")
		}
	}
	return out.String()
}

func writeFields(out *strings.Builder, indent string, fields []FieldDescription, parameters bool) {
	for _, field := range fields {
		comment(out, indent, field.Comment)
		fmt.Fprintf(out, "%s%s %s", indent, field.Name, field.Type)
		for _, said := range []struct {
			is   bool
			text string
		}{
			{parameters && field.Required, "required"},
			{field.Oneof != "", "one of " + field.Oneof},
			{field.Redacted, "redacted"},
			{len(field.Values) > 0, "one of " + strings.Join(field.Values, " ")},
			{len(field.Rules) > 0, strings.Join(field.Rules, ", ")},
		} {
			if said.is {
				out.WriteString(", " + printable(said.text))
			}
		}
		out.WriteString("\n")
		writeFields(out, indent+"  ", field.Fields, parameters)
	}
}

// printable returns text of a .proto on one line and without control characters, because
// an instance may have published it.
func printable(text string) string {
	return quote.Line(strings.TrimSpace(text), len(text))
}

func comment(out *strings.Builder, indent, text string) {
	if text == "" {
		return
	}
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(out, "%s// %s\n", indent, printable(line))
	}
}
