package validate

import (
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
)

// unknownRule is the Rule of a violation for an unknown field.
const unknownRule = "unknown_field"

// maxUnknown bounds the unknown fields that an error names, because the sender
// chooses how many there are.
const maxUnknown = 100

// UnknownFields returns an *[Error] with the code INVALID_ARGUMENT if a request has fields
// that its type does not have, else nil. It checks all depths, except the inside of a
// google.protobuf.Any. The Field of a violation is the path of the message and the field's
// number, such as `items[2].99`. Each number of a message is reported at most one time, and
// no error shows the value. The error names at most 100 fields and counts the others.
func UnknownFields(rpc string, msg proto.Message) error {
	if msg == nil {
		return nil
	}
	search := search{}
	fieldpath.Walk(msg.ProtoReflect(), search.visit, nil)
	if len(search.found) == 0 {
		return nil
	}
	return &Error{RPC: rpc, Violations: search.found, more: search.more}
}

// search finds unknown fields.
type search struct {
	found []Violation
	more  int
}

// visit records the unknown fields at one step of the walk.
func (s *search) visit(at protopath.Values) error {
	if at.Index(-1).Step.Kind() != protopath.UnknownAccessStep {
		return nil
	}
	descriptor := at.Index(-2).Value.Message().Descriptor()
	path, hidden := fieldpath.Of(at.Path, false)
	place := path.Text(maxPathBytes)
	if place != "" {
		place += "."
	}
	for _, number := range numbersIn(at.Index(-1).Value.Bytes()) {
		if len(s.found) == maxUnknown {
			s.more++
			continue
		}
		field, problem := unknownField(descriptor, number)
		s.found = append(s.found, Violation{Field: place + field, Rule: unknownRule, Message: problem, Hidden: hidden})
	}
	return nil
}

// unknownField returns the field's name or number, and why it is unknown. A declared field
// is unknown if its wire type is not that of its declaration.
func unknownField(descriptor protoreflect.MessageDescriptor, number protowire.Number) (field, problem string) {
	if declared := descriptor.Fields().ByNumber(number); declared != nil {
		name := string(declared.Name())
		return name, string(descriptor.FullName()) + " has a field " + name + " of another type than came"
	}
	field = strconv.FormatInt(int64(number), 10)
	return field, string(descriptor.FullName()) + " has no field " + field
}

// numbersIn returns the distinct numbers of unknown fields, sorted.
func numbersIn(unknown []byte) []protowire.Number {
	var numbers []protowire.Number
	for len(unknown) > 0 {
		number, _, size := protowire.ConsumeField(unknown)
		if size < 0 {
			break // malformed: only the program itself can set such bytes
		}
		numbers = append(numbers, number)
		unknown = unknown[size:]
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}
