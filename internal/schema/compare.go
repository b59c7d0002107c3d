package schema

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/quote"
)

// MaxDifferences is the most differences that [Compare] returns, because the other schema
// may be anything.
const MaxDifferences = 100

// maxTextBytes bounds each text of a [Difference].
const maxTextBytes = 200

// Difference is one way in which two schemas are incompatible.
type Difference struct {
	Kind Kind
	// Part is the part that differs, such as "auth.check_password: request.username".
	Part string
	// Built is the part in the caller's schema, and Served in the instance's schema;
	// "" if the schema does not have the part.
	Built, Served string
}

// String returns the difference as text.
func (d Difference) String() string {
	switch {
	case d.Served == "":
		return fmt.Sprintf("%s is %s here and gone there", d.Part, d.Built)
	case d.Built == "":
		return fmt.Sprintf("%s is %s there and unknown here", d.Part, d.Served)
	default:
		return fmt.Sprintf("%s is %s here and %s there", d.Part, d.Built, d.Served)
	}
}

type comparison struct {
	found []Difference
	// seen are the pairs of messages that were compared or are being compared.
	seen map[pair]bool
	// bytes is true if messages of one schema are decoded with the other: see Misread.
	bytes bool
	// all is true if the compatible changes that break generated code or calls by name are
	// found too: see Changes.
	all bool
	// packages are those of the service before and after, if all is true.
	packages [2]protoreflect.FullName
}

// Misread returns the parts that a reader misreads if it decodes the bytes of a message
// of another schema: a field or an enum value that has another name, number or type in the
// reader's schema, and fields that exclude each other only there. In each Difference, Built
// is from the messages' schema and Served from the reader's schema. Fields and values that
// the reader does not know are harmless: they stay in the message unchanged.
func Misread(built, reader protoreflect.MessageDescriptor) []Difference {
	c := &comparison{seen: make(map[pair]bool), bytes: true}
	c.messages("", built, reader, false)
	for i := range c.found {
		c.found[i].Part = strings.TrimPrefix(c.found[i].Part, ".")
	}
	return c.found
}

// Compare returns how the schema of an instance is incompatible with the schema that a
// caller of api was built with: an RPC that is gone, has another shape or is no longer
// idempotent, so that the caller must not retry it; a field whose name, number, type,
// cardinality, presence or oneof changed; a required field that is gone, or that is new in
// a request; an enum value that is gone or has another number. All other differences are
// harmless. It returns at most the first [MaxDifferences].
func Compare(api string, built, served protoreflect.ServiceDescriptor) []Difference {
	c := &comparison{seen: make(map[pair]bool)}
	return c.rpcs(api, methodsOf(built), served)
}

func methodsOf(service protoreflect.ServiceDescriptor) []protoreflect.MethodDescriptor {
	methods := make([]protoreflect.MethodDescriptor, service.Methods().Len())
	for i := range methods {
		methods[i] = service.Methods().Get(i)
	}
	return methods
}

// CompareRPC is [Compare] for one RPC alone, of the schema that a caller was built with.
func CompareRPC(api string, built protoreflect.MethodDescriptor, served protoreflect.ServiceDescriptor) []Difference {
	c := &comparison{seen: make(map[pair]bool)}
	return c.rpcs(api, []protoreflect.MethodDescriptor{built}, served)
}

func (c *comparison) rpcs(api string, built []protoreflect.MethodDescriptor, served protoreflect.ServiceDescriptor) []Difference {
	for _, here := range built {
		name := contract.RPCName(api, string(here.Name()))
		there := served.Methods().ByName(here.Name())
		switch {
		case here.Parent().FullName() != served.FullName() && !c.all:
			c.add(ServiceRenamed, name, "/"+string(here.Parent().FullName()), "/"+string(served.FullName()))
			return c.found
		case there == nil:
			c.rpcGone(api, here, served)
			continue
		case shape(here) != shape(there):
			c.add(StreamChanged, name, shape(here), shape(there))
			continue
		}
		if idempotent(here) && !idempotent(there) {
			c.add(IdempotencyRemoved, name, "idempotent", "not idempotent")
		}
		c.messages(name+": request", here.Input(), there.Input(), true)
		c.messages(name+": reply", here.Output(), there.Output(), false)
	}
	return c.found
}

func shape(method protoreflect.MethodDescriptor) string {
	word := func(stream bool) string {
		if stream {
			return "a stream"
		}
		return "one message"
	}
	return word(method.IsStreamingClient()) + " to " + word(method.IsStreamingServer())
}

type pair struct {
	built, served protoreflect.FullName
	request       bool
}

// add adds a difference, unless it is compatible and only incompatible ones are wanted.
func (c *comparison) add(kind Kind, part, built, served string) {
	if len(c.found) < MaxDifferences && (c.all || kind.Effect().Incompatible) {
		c.found = append(c.found, Difference{Kind: kind, Part: part, Built: quote.Clip(built, maxTextBytes), Served: quote.Clip(served, maxTextBytes)})
	}
}

// below returns the name of a part inside another part. It is cut, so that deep nesting
// does not make it long.
func below(part, name string) string { return quote.Clip(part+name, maxTextBytes) }

func (c *comparison) messages(part string, built, served protoreflect.MessageDescriptor, request bool) {
	if wellKnown(built) || wellKnown(served) {
		if built.FullName() != served.FullName() {
			c.add(TypeChanged, part, string(built.FullName()), string(served.FullName()))
		}
		return
	}
	if c.renamed(built, served) {
		c.add(MessageRenamed, part, string(built.FullName()), string(served.FullName()))
	}
	key := pair{built.FullName(), served.FullName(), request}
	if c.seen[key] {
		return
	}
	c.seen[key] = true
	fields := built.Fields()
	for i := range fields.Len() {
		here := fields.Get(i)
		at := below(part, "."+string(here.Name()))
		there := served.Fields().ByName(here.Name())
		switch {
		case there != nil:
			c.fields(at, here, there, request)
		case served.Fields().ByNumber(here.Number()) != nil:
			taken := served.Fields().ByNumber(here.Number())
			c.add(takenBy(here, taken), at, number(here), "named "+string(taken.Name()))
		case contract.Required(here) && !c.bytes:
			c.add(RequiredRemoved, at, "required", "")
		default:
			c.add(FieldRemoved, at, "a field", "")
		}
	}
	if request {
		c.newlyRequired(part, built, served)
	}
	if c.bytes {
		c.merged(part, built, served)
	} else {
		c.oneofs(part, built, served)
	}
}

// newlyRequired finds fields that requests must have but that the caller does not know.
func (c *comparison) newlyRequired(part string, built, served protoreflect.MessageDescriptor) {
	fields := served.Fields()
	for i := range fields.Len() {
		there := fields.Get(i)
		if contract.Required(there) && built.Fields().ByName(there.Name()) == nil && built.Fields().ByNumber(there.Number()) == nil {
			c.add(RequiredAdded, below(part, "."+string(there.Name())), "", "required")
		}
	}
}

// merged finds fields that exclude each other only for the reader. If two of them are set,
// the reader keeps only the last.
func (c *comparison) merged(part string, built, reader protoreflect.MessageDescriptor) {
	for i := range reader.Oneofs().Len() {
		var first protoreflect.FieldDescriptor
		members := reader.Oneofs().Get(i).Fields()
		for j := range members.Len() {
			here := built.Fields().ByName(members.Get(j).Name())
			switch {
			case here == nil:
			case first == nil:
				first = here
			case here.ContainingOneof() == nil || here.ContainingOneof() != first.ContainingOneof():
				c.add(OneofChanged, below(part, "."+string(here.Name())), together(false, first.Name()), together(true, first.Name()))
			}
		}
	}
}

// oneofs compares which fields exclude each other: if two fields of a oneof are set, only
// the last is read. The name of a oneof is irrelevant.
func (c *comparison) oneofs(part string, built, served protoreflect.MessageDescriptor) {
	type member struct {
		name   protoreflect.Name
		oneofs [2]protoreflect.OneofDescriptor // the caller's and the instance's
	}
	var firsts [2]map[protoreflect.OneofDescriptor]member
	for side := range firsts {
		firsts[side] = make(map[protoreflect.OneofDescriptor]member)
	}
	for i := range built.Fields().Len() {
		here := built.Fields().Get(i)
		there := served.Fields().ByName(here.Name())
		if there == nil || presence(here) != inOneof || presence(there) != inOneof {
			continue
		}
		m := member{here.Name(), [2]protoreflect.OneofDescriptor{here.ContainingOneof(), there.ContainingOneof()}}
		for side, oneof := range m.oneofs {
			first, ok := firsts[side][oneof]
			if !ok {
				firsts[side][oneof] = m
			} else if first.oneofs != m.oneofs {
				c.add(OneofChanged, below(part, "."+string(m.name)), together(side == 0, first.name), together(side == 1, first.name))
				break
			}
		}
	}
}

func together(same bool, other protoreflect.Name) string {
	if same {
		return "in the oneof of " + string(other)
	}
	return "not in the oneof of " + string(other)
}

func (c *comparison) fields(part string, here, there protoreflect.FieldDescriptor, request bool) {
	for _, aspect := range []struct {
		of      func(protoreflect.FieldDescriptor) string
		changed Kind
	}{{number, FieldRenumbered}, {cardinality, CardinalityChanged}, {kind, TypeChanged}} {
		if aspect.of(here) != aspect.of(there) {
			c.add(aspect.changed, part, aspect.of(here), aspect.of(there))
			return
		}
	}
	if !c.bytes && presence(here) != presence(there) {
		c.add(PresenceChanged, part, presence(here), presence(there))
		return
	}
	if here.IsMap() {
		c.fields(below(part, "[key]"), here.MapKey(), there.MapKey(), request)
		c.fields(below(part, "[value]"), here.MapValue(), there.MapValue(), request)
		return
	}
	switch {
	case here.Enum() != nil:
		c.enums(part, here.Enum(), there.Enum())
	case here.Message() != nil:
		c.messages(part, here.Message(), there.Message(), request)
	}
}

func (c *comparison) enums(part string, here, there protoreflect.EnumDescriptor) {
	if c.renamed(here, there) {
		c.add(EnumRenamed, part, string(here.FullName()), string(there.FullName()))
	}
	values := here.Values()
	for i := range values.Len() {
		value := values.Get(i)
		other := there.Values().ByName(value.Name())
		at := below(part, " "+string(value.Name()))
		switch {
		case other == nil && c.bytes:
			if taken := there.Values().ByNumber(value.Number()); taken != nil && !same(here.Values().ByName(taken.Name()), value) {
				c.add(ValueRenamed, at, fmt.Sprintf("number %d", value.Number()), "named "+string(taken.Name()))
			}
		case other == nil:
			c.valueGone(at, value, here, there)
		case other.Number() != value.Number():
			c.add(ValueRenumbered, at, fmt.Sprintf("number %d", value.Number()), fmt.Sprintf("number %d", other.Number()))
		}
	}
}

// same reports whether two values of an enum are aliases of one number.
func same(other, value protoreflect.EnumValueDescriptor) bool {
	return other != nil && other.Number() == value.Number()
}

func number(field protoreflect.FieldDescriptor) string {
	return fmt.Sprintf("number %d", field.Number())
}

func kind(field protoreflect.FieldDescriptor) string { return field.Kind().String() }

func cardinality(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsMap():
		return "a map"
	case field.IsList():
		return "repeated"
	default:
		return "one value"
	}
}

const inOneof = "in a oneof"

// presence describes a field's presence on the wire, independent of the .proto syntax.
func presence(field protoreflect.FieldDescriptor) string {
	oneof := field.ContainingOneof()
	switch {
	case field.Cardinality() == protoreflect.Required:
		return "required"
	case oneof != nil && !oneof.IsSynthetic():
		return inOneof
	case field.HasPresence():
		return "with presence"
	default:
		return "without presence"
	}
}

func wellKnown(message protoreflect.MessageDescriptor) bool {
	return strings.HasPrefix(string(message.FullName()), "google.protobuf.")
}
