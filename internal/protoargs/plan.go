package protoargs

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/quote"
)

// Resolver finds the Go types of messages. *protoregistry.Types and
// *dynamicpb.Types are resolvers.
type Resolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// Plan converts named arguments to requests of one RPC. It is built from the descriptor of
// the request. It is immutable and safe for concurrent use.
type Plan struct {
	rpc     string
	types   Resolver
	request *message
	new     func() protoreflect.Message
	limit   int
}

// NewPlan returns a plan for the RPC with the bus name rpc, whose request has the
// descriptor desc. types finds the Go types of messages; nil means those that are linked
// into the program. A request has the generated Go type if types has one for exactly this
// descriptor, else it is a *dynamicpb.Message.
func NewPlan(rpc string, desc protoreflect.MessageDescriptor, types Resolver) *Plan {
	if types == nil {
		types = protoregistry.GlobalTypes
	}
	plan := &Plan{rpc: rpc, types: types, request: compile(desc), limit: DefaultLimit}
	plan.new = func() protoreflect.Message { return dynamicpb.NewMessage(desc) }
	if goType, err := types.FindMessageByName(desc.FullName()); err == nil && goType.Descriptor() == desc {
		plan.new = goType.New
	}
	return plan
}

// Limit returns a copy of the plan with another limit for the size of a request on the
// wire, in bytes.
func (p *Plan) Limit(bytes int) *Plan {
	if bytes == p.limit {
		return p
	}
	limited := *p
	limited.limit = bytes
	return &limited
}

// message is a message type of a plan.
type message struct {
	desc    protoreflect.MessageDescriptor
	special special
	fields  []*field
	byName  map[string]*field
	oneofs  int
}

// field is a field of a message type.
type field struct {
	desc     protoreflect.FieldDescriptor
	name     string
	required bool
	redacted bool
	// oneof is the index of the oneof that the field is in, or -1.
	oneof int
	// value is the type of the field, of its elements, or of a map's values.
	value *valueType
	key   *valueType
	shape shapeOf
}

type shapeOf int

const (
	single shapeOf = iota
	list
	mapped
)

// valueType is the type of one value.
type valueType struct {
	kind protoreflect.Kind
	enum protoreflect.EnumDescriptor
	// message is set if the kind is a message kind.
	message *message
}

// compile reads a message type and all types that it may contain.
func compile(desc protoreflect.MessageDescriptor) *message {
	return compileOnce(desc, make(map[protoreflect.MessageDescriptor]*message))
}

func compileOnce(desc protoreflect.MessageDescriptor, seen map[protoreflect.MessageDescriptor]*message) *message {
	if known := seen[desc]; known != nil {
		return known
	}
	fields := desc.Fields()
	out := &message{desc: desc, special: specialOf(desc), byName: make(map[string]*field, fields.Len()), oneofs: desc.Oneofs().Len()}
	seen[desc] = out
	for i := range fields.Len() {
		read := compileField(fields.Get(i), seen)
		out.fields = append(out.fields, read)
		out.byName[read.name] = read
	}
	return out
}

func compileField(desc protoreflect.FieldDescriptor, seen map[protoreflect.MessageDescriptor]*message) *field {
	out := &field{desc: desc, name: string(desc.Name()), required: contract.Required(desc), redacted: fieldpath.Redacted(desc), oneof: -1}
	if oneof := desc.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		out.oneof = oneof.Index()
	}
	switch {
	case desc.IsMap():
		out.shape = mapped
		out.key = compileValue(desc.MapKey(), seen)
		out.value = compileValue(desc.MapValue(), seen)
	case desc.IsList():
		out.shape = list
		out.value = compileValue(desc, seen)
	default:
		out.value = compileValue(desc, seen)
	}
	return out
}

func compileValue(desc protoreflect.FieldDescriptor, seen map[protoreflect.MessageDescriptor]*message) *valueType {
	out := &valueType{kind: desc.Kind(), enum: desc.Enum()}
	if inner := desc.Message(); inner != nil {
		out.message = compileOnce(inner, seen)
	}
	return out
}

// names returns the names of the message's fields.
func (m *message) names() []string {
	names := make([]string, 0, len(m.fields))
	for _, f := range m.fields {
		names = append(names, f.name)
	}
	return names
}

// byJSONName returns the field with a JSON name, nil if there is none.
func (m *message) byJSONName(name string) *field {
	for _, f := range m.fields {
		if f.desc.JSONName() == name {
			return f
		}
	}
	return nil
}

// text returns protobuf's name of the type.
func (t *valueType) text() string {
	switch {
	case t.message != nil:
		return quote.Clip(strings.TrimPrefix(string(t.message.desc.FullName()), "."), maxTypeEcho)
	case t.enum != nil:
		return quote.Clip(string(t.enum.FullName()), maxTypeEcho)
	default:
		return t.kind.String()
	}
}
