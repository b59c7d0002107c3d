package named

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/protopath"
)

// misfit is a value of a message that another schema of the same full name would
// read as something else.
type misfit struct {
	path path
	// here is what the message has, and there what the other schema makes of it;
	// here is "" when the message lacks what the other schema requires.
	here, there string
}

// comparison looks through a message for misfits, before it goes through bytes
// into the other schema: the wire tells neither names nor, for most, types. A
// field that the other schema does not have is none: it stays an unknown field.
type comparison struct {
	types Resolver
	// complete says that what the other schema requires must be there.
	complete bool
	// limit is how many misfits are enough.
	limit  int
	path   path
	hidden int
	found  []misfit
}

func (c *comparison) add(here, there string) {
	c.found = append(c.found, misfit{slices.Clone(c.path), here, there})
}

func (c *comparison) enough() bool { return len(c.found) >= c.limit }

// message compares what is set in a message with the schema that will read it.
func (c *comparison) message(m protoreflect.Message, reader protoreflect.MessageDescriptor) {
	if m.Descriptor() == reader {
		return
	}
	if c.complete {
		c.required(m, reader)
	}
	chosen := make(map[int]protoreflect.Name) // by oneof
	fields := m.Descriptor().Fields()
	for i := 0; i < fields.Len() && !c.enough(); i++ {
		if here := fields.Get(i); m.Has(here) {
			c.member(here, reader, m.Get(here), chosen)
		}
	}
	if m.Descriptor().ExtensionRanges().Len() == 0 {
		return
	}
	m.Range(func(here protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if here.IsExtension() {
			c.member(here, reader, v, chosen)
		}
		return !c.enough()
	})
}

// required looks for the fields that proto2 requires of the other schema.
func (c *comparison) required(m protoreflect.Message, reader protoreflect.MessageDescriptor) {
	numbers := reader.RequiredNumbers()
	for i := range numbers.Len() {
		here := m.Descriptor().Fields().ByNumber(numbers.Get(i))
		if here != nil && m.Has(here) {
			continue
		}
		there := reader.Fields().ByNumber(numbers.Get(i))
		c.path = append(c.path, step{field: string(there.Name())})
		c.add("", wantsOf(there))
		c.path = c.path[:len(c.path)-1]
	}
}

// member compares one field that is set; chosen are those before it that the
// other schema has in its oneofs.
func (c *comparison) member(here protoreflect.FieldDescriptor, reader protoreflect.MessageDescriptor, v protoreflect.Value, chosen map[int]protoreflect.Name) {
	there := c.counterpart(here, reader)
	if there == nil {
		return
	}
	hide := protopath.Redacted(here) || protopath.Redacted(there)
	if hide {
		c.hidden++
	}
	c.path = append(c.path, step{field: string(here.Name())})
	if oneof := there.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		if other, taken := chosen[oneof.Index()]; taken {
			c.add("set together with "+string(other), "in one oneof with it")
		}
		chosen[oneof.Index()] = here.Name()
	}
	c.field(here, there, v)
	c.path = c.path[:len(c.path)-1]
	if hide {
		c.hidden--
	}
}

// counterpart gives the field that reads another, or has its name; nil when there
// is none.
func (c *comparison) counterpart(here protoreflect.FieldDescriptor, reader protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if there := reader.Fields().ByNumber(here.Number()); there != nil {
		return there
	}
	if there, err := c.types.FindExtensionByNumber(reader.FullName(), here.Number()); err == nil {
		return there.TypeDescriptor()
	}
	if here.IsExtension() {
		return nil
	}
	return reader.Fields().ByName(here.Name())
}

func (c *comparison) field(here, there protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case here.Number() != there.Number():
		c.add(fmt.Sprintf("number %d", here.Number()), fmt.Sprintf("number %d", there.Number()))
	case here.Name() != there.Name():
		c.add(fmt.Sprintf("number %d", here.Number()), "named "+clip(string(there.Name()), maxNameEcho))
	case !sameType(here, there):
		c.add(typeText(here), typeText(there))
	case here.IsMap():
		c.dict(here.MapValue(), there.MapValue(), v.Map())
	case here.IsList():
		for i := 0; i < v.List().Len() && !c.enough(); i++ {
			c.at(step{index: i}, here, there, v.List().Get(i))
		}
	default:
		c.value(here, there, v)
	}
}

func (c *comparison) dict(here, there protoreflect.FieldDescriptor, values protoreflect.Map) {
	if here.Enum() == nil && here.Message() == nil {
		return
	}
	values.Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
		c.at(step{key: key, hidden: c.hidden > 0}, here, there, v)
		return !c.enough()
	})
}

// at is value for an element of a list or a map.
func (c *comparison) at(element step, here, there protoreflect.FieldDescriptor, v protoreflect.Value) {
	c.path = append(c.path, element)
	c.value(here, there, v)
	c.path = c.path[:len(c.path)-1]
}

func (c *comparison) value(here, there protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case here.Message() != nil:
		c.message(v.Message(), there.Message())
	case here.Enum() != nil && !sameValue(here.Enum(), there.Enum(), v.Enum()):
		if c.hidden > 0 {
			c.add("one value of an enum", "another")
			return
		}
		c.add(enumText(here.Enum(), v.Enum()), enumText(there.Enum(), v.Enum()))
	}
}

// sameType tells whether two fields are read alike. Types of messages go by what
// they hold, but for those that mean more than their fields say.
func sameType(here, there protoreflect.FieldDescriptor) bool {
	switch {
	case here.IsMap() != there.IsMap() || here.IsList() != there.IsList() || here.Kind() != there.Kind():
		return false
	case here.IsMap():
		return here.MapKey().Kind() == there.MapKey().Kind() && sameType(here.MapValue(), there.MapValue())
	case here.Message() == nil || here.Message().FullName() == there.Message().FullName():
		return true
	default:
		return !isWellKnown(here.Message()) && !isWellKnown(there.Message())
	}
}

func isWellKnown(desc protoreflect.MessageDescriptor) bool {
	_, ok := wellKnown[desc.FullName()]
	return ok
}

// sameValue tells whether a number means the same in two enums. It does when one
// of them has no name for it, unless the other calls another number so.
func sameValue(here, there protoreflect.EnumDescriptor, number protoreflect.EnumNumber) bool {
	if here == there {
		return true
	}
	one, other := here.Values().ByNumber(number), there.Values().ByNumber(number)
	if one == nil {
		return true
	}
	// An enum may have two names for a number, so that the first may differ.
	same := there.Values().ByName(one.Name())
	switch {
	case same != nil:
		return same.Number() == number
	case other == nil:
		return true
	default:
		same = here.Values().ByName(other.Name())
		return same != nil && same.Number() == number
	}
}

func enumText(enum protoreflect.EnumDescriptor, number protoreflect.EnumNumber) string {
	if value := enum.Values().ByNumber(number); value != nil {
		return clip(string(value.Name()), maxNameEcho)
	}
	return fmt.Sprintf("a number %d without a name", number)
}

// typeText says in protobuf's words what a field is.
func typeText(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsMap():
		return "map<" + field.MapKey().Kind().String() + ", " + typeText(field.MapValue()) + ">"
	case field.IsList():
		return "repeated " + kindText(field)
	default:
		return kindText(field)
	}
}

func kindText(field protoreflect.FieldDescriptor) string {
	if field.Message() != nil {
		return field.Kind().String() + " " + clip(string(field.Message().FullName()), maxTypeEcho)
	}
	return field.Kind().String()
}
