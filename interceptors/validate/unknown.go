package validate

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/protopath"
)

// unknownRule is the Rule of a field that the message's type does not have.
const unknownRule = "unknown_field"

// maxUnknown bounds the unknown fields that an error names: the sender picks
// how many there are.
const maxUnknown = 100

// UnknownFields gives an *[Error] with the code INVALID_ARGUMENT when a request
// has fields that its type does not have, at any depth but in what a
// google.protobuf.Any wraps; else nil. A violation's Field is the path of the
// message followed by the field's number, such as `items[2].99`, once for each
// number and message, and no error shows the value. Of more than 100 the error
// only says how many there are.
func UnknownFields(rpc string, msg proto.Message) error {
	if msg == nil {
		return nil
	}
	search := search{}
	search.message(msg.ProtoReflect())
	if len(search.found) == 0 {
		return nil
	}
	return &Error{RPC: rpc, Violations: search.found, more: search.more}
}

// search looks for unknown fields.
type search struct {
	path  []step
	found []Violation
	more  int
}

// step is a part of a path: a field, and what of the list or map it holds.
type step struct {
	field protoreflect.FieldDescriptor
	index int                 // of a list
	key   protoreflect.MapKey // of a map
}

// message searches a message and what it holds.
func (s *search) message(message protoreflect.Message) {
	if unknown := message.GetUnknown(); len(unknown) > 0 {
		s.note(message.Descriptor(), unknown)
	}
	descriptor := message.Descriptor()
	for i := range descriptor.Fields().Len() {
		if field := descriptor.Fields().Get(i); protopath.MessageIn(field) != nil && message.Has(field) {
			s.field(field, message.Get(field))
		}
	}
	if descriptor.ExtensionRanges().Len() == 0 {
		return
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.IsExtension() && protopath.MessageIn(field) != nil {
			s.field(field, value)
		}
		return true
	})
}

// field searches the messages in a field.
func (s *search) field(field protoreflect.FieldDescriptor, value protoreflect.Value) {
	s.path = append(s.path, step{field: field})
	last := len(s.path) - 1
	switch {
	case field.IsMap():
		value.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
			s.path[last].key = key
			s.message(value.Message())
			return true
		})
	case field.IsList():
		for i := range value.List().Len() {
			s.path[last].index = i
			s.message(value.List().Get(i).Message())
		}
	default:
		s.message(value.Message())
	}
	s.path = s.path[:last]
}

// note notes the unknown fields of the message that the search is at.
func (s *search) note(descriptor protoreflect.MessageDescriptor, unknown []byte) {
	place, hidden := "", false
	for _, number := range numbersIn(unknown) {
		if len(s.found) == maxUnknown {
			s.more++
			continue
		}
		if place == "" {
			place, hidden = s.place()
		}
		field, problem := unknownField(descriptor, number)
		s.found = append(s.found, Violation{Field: place + field, Rule: unknownRule, Message: problem, Hidden: hidden})
	}
}

// unknownField says what is unknown of a field. One that is declared is unknown when
// it came in the form of another type.
func unknownField(descriptor protoreflect.MessageDescriptor, number protowire.Number) (field, problem string) {
	if declared := descriptor.Fields().ByNumber(number); declared != nil {
		name := string(declared.Name())
		return name, string(descriptor.FullName()) + " has a field " + name + " of another type than came"
	}
	field = strconv.FormatInt(int64(number), 10)
	return field, string(descriptor.FullName()) + " has no field " + field
}

// numbersIn gives the numbers of unknown fields, each once.
func numbersIn(unknown []byte) []protowire.Number {
	var numbers []protowire.Number
	for len(unknown) > 0 {
		number, _, size := protowire.ConsumeField(unknown)
		if size < 0 {
			break // put there by the program itself
		}
		numbers = append(numbers, number)
		unknown = unknown[size:]
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// place gives the path that the search is at, with a dot after it, and whether
// it goes through a hidden field, whose keys it leaves out.
func (s *search) place() (place string, hidden bool) {
	var path strings.Builder
	for _, step := range s.path {
		hidden = hidden || protopath.Redacted(step.field)
		if path.Len() > maxPathBytes {
			continue
		}
		writeName(&path, step.field.TextName())
		switch {
		case step.field.IsList():
			writeSubscript(&path, strconv.Itoa(step.index))
		case step.field.IsMap() && !hidden:
			writeSubscript(&path, keyOf(step))
		}
	}
	if path.Len() == 0 {
		return "", hidden
	}
	return shorten(path.String(), maxPathBytes) + ".", hidden
}

func keyOf(at step) string {
	if at.field.MapKey().Kind() == protoreflect.StringKind {
		return quote(at.key.String())
	}
	return at.key.String()
}
