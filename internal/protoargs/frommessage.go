package protoargs

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/quote"
)

// fromMessage copies a message to another of the same type, or packs it into an Any.
func (e *encoder) fromMessage(t *valueType, message proto.Message, into protoreflect.Message) bool {
	m := reflectOf(message)
	if m == nil || !m.IsValid() {
		return e.isNil()
	}
	name := m.Descriptor().FullName()
	pack := t.message.special == anyMessage && name != t.message.desc.FullName()
	switch {
	case !pack && name != t.message.desc.FullName():
		return e.fail(WrongType, "takes %s, and a message %s was given", t.wants(), quote.Clip(string(name), maxTypeEcho))
	case !e.checkValid(m):
		return false
	case pack:
		return e.pack(message, typePrefix+string(name), into)
	default:
		return e.copyMessage(message, into)
	}
}

// reflectOf returns a message's reflection, nil if it has none. A struct that embeds a nil
// message implements proto.Message, but its ProtoReflect panics.
func reflectOf(message proto.Message) (m protoreflect.Message) {
	defer func() {
		if recover() != nil {
			m = nil
		}
	}()
	m = message.ProtoReflect()
	if m == nil || m.Descriptor() == nil {
		return nil
	}
	return m
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

// step checks a value, and its key if it is in a map, but not the values inside it.
func (c *check) step(at protopath.Values) bool {
	last := at.Index(-1)
	anyText, isElement := kindOf(at)
	if last.Step.Kind() == protopath.MapIndexStep {
		key, _ := last.Step.MapIndex().Interface().(string)
		if !c.charge(2) || !c.string(key, anyText) {
			return false
		}
	}
	switch value := last.Value.Interface().(type) {
	case protoreflect.Message:
		return (at.Len() == 1 || c.charge(2)) && c.message(value)
	case string:
		return c.charge(1) && c.string(value, anyText)
	case []byte:
		return c.charge(len(value))
	case protoreflect.List, protoreflect.Map:
		return true
	default:
		return !isElement || c.charge(1)
	}
}

// kindOf describes the last value. anyText is true if its field is of proto2, whose strings
// may contain any bytes. isElement is true if it is an element of a list or a map.
func kindOf(at protopath.Values) (anyText, isElement bool) {
	field := at.Index(-1).Step
	if field.Kind() == protopath.ListIndexStep || field.Kind() == protopath.MapIndexStep {
		field, isElement = at.Index(-2).Step, true
	}
	anyText = field.Kind() == protopath.FieldAccessStep && field.FieldDescriptor().ParentFile().Syntax() == protoreflect.Proto2
	return anyText, isElement
}

// string checks a string. In proto2 it may contain any bytes.
func (c *check) string(text string, anyText bool) bool {
	if anyText {
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
			ok = c.failAt(string(field.Name()), Missing, missingText, wantsOf(field))
		}
	}
	return ok
}
