package validate

import (
	"errors"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
)

// maxWeight bounds the parts of a message of which all violations are returned,
// each counted as often as it is deep. protovalidate makes some 700 bytes of a
// violation and a pointer of each step of its path, so that a list of zeros
// could otherwise be answered with a thousand times its size.
const maxWeight = 1 << 14

// violations returns all that is wrong with a message, of which a validator has
// returned err. It also reports whether the list is partial, since there may be too many
// violations to return.
//
// For types without bounds err comes from a run that ended at the first
// violation.
func (c *Checker) violations(message proto.Message, err error) (found []*protovalidate.Violation, partial bool) {
	if len(c.options) > 0 {
		if !light(message.ProtoReflect()) {
			return violationsOf(err, nil), true
		}
		err = c.validator.Validate(message)
	}
	if violated, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
		return violated.Violations, false
	}
	// A rule could not be evaluated, and that ended the run. So each part runs
	// alone.
	descriptor := message.ProtoReflect().Descriptor()
	found = violationsOf(c.validator.Validate(message, only(message, descriptor)), nil)
	for part := range partsBelow(descriptor) {
		found = append(found, violationsOf(c.validator.Validate(message, only(message, part)), part)...)
	}
	if len(found) == 0 {
		found = violationsOf(err, nil)
	}
	return found, false
}

// light reports whether the parts of a message weigh no more than maxWeight.
func light(message protoreflect.Message) bool {
	left := maxWeight
	fieldpath.Walk(message, func(at protopath.Values) error {
		if left -= at.Len(); left < 0 {
			return protorange.Terminate
		}
		return nil
	}, nil)
	return left >= 0
}

// notEvaluated says that nothing is known of a rule.
const notEvaluated = "the rule cannot be evaluated on these values"

// violationsOf returns the violations that an error of a validator holds. A rule
// of part, when not nil, that could not be evaluated is one too.
func violationsOf(err error, part protoreflect.Descriptor) []*protovalidate.Violation {
	if err == nil {
		return nil
	}
	if violated, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
		return violated.Violations
	}
	violation := validate.Violation_builder{Message: new(notEvaluated)}
	if rule := ruleOf(err); rule != "" {
		violation.RuleId = new(rule)
	}
	if part != nil {
		violation.Field = validate.FieldPath_builder{Elements: []*validate.FieldPathElement{elementOf(part)}}.Build()
	}
	return []*protovalidate.Violation{{Proto: violation.Build()}}
}

// ruleOf returns the id of the rule that could not be evaluated; "" when it is not
// known. The id is in protovalidate's text alone, before the text of the
// cause, which may hold values.
func ruleOf(err error) string {
	var unevaluated *protovalidate.RuntimeError
	if !errors.As(err, &unevaluated) {
		return ""
	}
	said := unevaluated.Unwrap()
	cause := errors.Unwrap(said)
	if cause == nil {
		return ""
	}
	rule, found := strings.CutSuffix(said.Error(), ": "+cause.Error())
	rule, begun := strings.CutPrefix(rule, "error evaluating ")
	if !found || !begun {
		return ""
	}
	return rule
}

// elementOf returns a field or oneof as the element of a path.
func elementOf(part protoreflect.Descriptor) *validate.FieldPathElement {
	element := validate.FieldPathElement_builder{FieldName: new(string(part.Name()))}
	if field, ok := part.(protoreflect.FieldDescriptor); ok {
		element.FieldNumber = new(int32(field.Number()))
	}
	return element.Build()
}
