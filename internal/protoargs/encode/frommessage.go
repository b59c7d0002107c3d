package encode

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/protoargs"
)

// fromMessage copies a message to another of the same type, or packs it into an Any.
func (e *encoder) fromMessage(given proto.Message, into protoreflect.Message) bool {
	m := protoargs.MessageOf(given)
	if m == nil {
		return e.isNil()
	}
	same := m.Descriptor().FullName() == into.Descriptor().FullName()
	switch {
	case !same && protoargs.SpecialOf(into.Descriptor()) != protoargs.Any:
		return e.fail(WrongType, "takes %s, and a message %s was given", wantsMessage(into.Descriptor()), protoargs.FullName(m.Descriptor()))
	case !e.checkValid(m):
		return false
	case same:
		return e.copyMessage(given, into)
	default:
		return e.pack(given, typePrefix+string(m.Descriptor().FullName()), into)
	}
}

// copyMessage copies a message of the same full name.
func (e *encoder) copyMessage(from proto.Message, into protoreflect.Message) bool {
	differences, err := e.versions.Copy(from.ProtoReflect(), into, e.plan.types)
	for _, differs := range differences {
		field, value := protoargs.Parts(differs)
		e.failAt(field, WrongType, "%sis %s in the message given, and %s in the schema: build both from one .proto", value, differs.Built, differs.Served)
	}
	switch {
	case len(differences) > 0:
		return false
	case err != nil:
		return e.fail(WrongType, "is a message that does not fit %s as the schema has it: build both from one .proto", into.Descriptor().FullName())
	case from.ProtoReflect().Descriptor() == into.Descriptor():
		return true
	}
	size := e.size // which was counted when the message was read
	ok := e.checkValid(into)
	e.size = size
	return ok
}

// checkValid checks a message that the program created. It must not contain itself, nil
// elements or text that is not UTF-8. It must have all fields that proto2 requires, and
// must not be too large.
func (e *encoder) checkValid(m protoreflect.Message) bool {
	check := check{encoder: e, around: e.path, hidden: e.hidden, depth: e.depth, ok: true}
	fieldpath.Walk(m, check.push, check.pop)
	e.path, e.hidden, e.depth = check.around, check.hidden, check.depth
	return check.ok
}

// check checks a message. around, hidden and depth are the encoder's values where the
// message is.
type check struct {
	*encoder

	ok     bool
	around fieldpath.Path
	hidden int
	depth  int
}

func (c *check) push(at protopath.Values) error {
	if c.explain {
		below, hidden := fieldpath.Of(at.Path, c.hidden > 0)
		c.path, c.encoder.hidden = append(slices.Clip(c.around), below...), 0
		if hidden {
			c.encoder.hidden = 1
		}
	}
	good := c.step(at)
	if c.ok = c.ok && good; !good && c.halt() {
		return protorange.Terminate
	}
	return nil
}

func (c *check) pop(at protopath.Values) error {
	if _, ok := at.Index(-1).Value.Interface().(protoreflect.Message); ok {
		c.leave()
	}
	return nil
}

// step checks a value, and its key if it is in a map, but not the values inside it. Each
// value but the message itself has at least one byte on the wire.
func (c *check) step(at protopath.Values) bool {
	if at.Len() > 1 && !c.charge(1) {
		return false
	}
	last := at.Index(-1)
	if last.Step.Kind() == protopath.MapIndexStep {
		if key, _ := last.Step.MapIndex().Interface().(string); !c.string(key, at) {
			return false
		}
	}
	switch value := last.Value.Interface().(type) {
	case protoreflect.Message:
		return c.message(value)
	case string:
		return c.string(value, at)
	case []byte:
		return c.charge(len(value))
	default:
		return true
	}
}

// string checks a string, or the key of a map. In proto2 it may contain any bytes.
func (c *check) string(text string, at protopath.Values) bool {
	field := at.Index(-1).Step
	if field.Kind() == protopath.ListIndexStep || field.Kind() == protopath.MapIndexStep {
		field = at.Index(-2).Step
	}
	if field.Kind() == protopath.FieldAccessStep && field.FieldDescriptor().ParentFile().Syntax() == protoreflect.Proto2 {
		return c.charge(len(text))
	}
	return c.validText(text)
}

// message checks a message, but not the values inside it.
func (c *check) message(m protoreflect.Message) bool {
	if !c.enter() {
		return false
	}
	if !m.IsValid() {
		return c.isNil()
	}
	ok := true
	numbers := m.Descriptor().RequiredNumbers()
	for i := range numbers.Len() {
		if field := m.Descriptor().Fields().ByNumber(numbers.Get(i)); !m.Has(field) {
			ok = c.failAt(string(field.Name()), Missing, missingText, wants(field))
		}
	}
	return ok
}
