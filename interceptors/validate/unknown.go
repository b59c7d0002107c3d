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

// unknownRule is the Rule of a field that the message's type does not have.
const unknownRule = "unknown_field"

// maxUnknown bounds the unknown fields that an error names: the sender picks
// how many there are.
const maxUnknown = 100

// UnknownFields returns an *[Error] with the code INVALID_ARGUMENT when a request
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
	fieldpath.Walk(msg.ProtoReflect(), search.visit, nil)
	if len(search.found) == 0 {
		return nil
	}
	return &Error{RPC: rpc, Violations: search.found, more: search.more}
}

// search looks for unknown fields.
type search struct {
	found []Violation
	more  int
}

// visit notes the unknown fields of a message that the search is at.
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

// numbersIn returns the numbers of unknown fields, each once.
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
