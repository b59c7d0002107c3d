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

// maxWeight bounds the parts of a message for which all violations are returned. Each part
// counts as much as it is deep, because protovalidate allocates about 700 bytes for a
// violation and a pointer for each step of its path. Without a bound, the error for a list
// of zeros could be a thousand times larger than the list.
const maxWeight = 1 << 14

// violations returns all violations of a message for which validation returned err.
// partial is true if there may be more violations than it returned.
//
// For types without a bound on the number of parts, err is from a run that stopped at the
// first violation.
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
	// The run stopped because a rule could not be evaluated. So run each part on its
	// own.
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

// light reports whether a message has at most maxWeight of parts.
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

// notEvaluated is the message for a rule that could not be evaluated.
const notEvaluated = "the rule cannot be evaluated on these values"

// violationsOf returns the violations in a validation error. If a rule of part could not
// be evaluated, that is a violation too. part may be nil.
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

// ruleOf returns the id of the rule that could not be evaluated, "" if it is not known.
// protovalidate has the id only in the error's text, before the text of the cause, which
// may contain values.
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

// elementOf returns a field or oneof as a path element.
func elementOf(part protoreflect.Descriptor) *validate.FieldPathElement {
	element := validate.FieldPathElement_builder{FieldName: new(string(part.Name()))}
	if field, ok := part.(protoreflect.FieldDescriptor); ok {
		element.FieldNumber = new(int32(field.Number()))
	}
	return element.Build()
}
