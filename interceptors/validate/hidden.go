package validate

import (
	"fmt"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
)

// anyName is the type that may contain any message.
const anyName = "google.protobuf.Any"

// viewer decides which parts of a message's violations may be shown.
type viewer struct {
	root protoreflect.MessageDescriptor
	// holds caches mayHold for each type.
	holds map[protoreflect.MessageDescriptor]bool
}

func newViewer(root protoreflect.MessageDescriptor) *viewer {
	return &viewer{root: root, holds: make(map[protoreflect.MessageDescriptor]bool)}
}

// view returns a violation without hidden values, as protovalidate's own message and as
// a [Violation].
func (v *viewer) view(violation *protovalidate.Violation) (*validate.Violation, Violation) {
	told := violation.Proto
	elements, hidden, judged := v.follow(told.GetField().GetElements())
	shown := Violation{Field: pathOf(elements), Rule: told.GetRuleId(), Message: told.GetMessage(), Hidden: hidden}
	if !hidden && (told.GetForKey() || !v.mayHold(judged)) {
		return told, shown
	}
	shown.Message = outline(violation)
	built := validate.Violation_builder{Rule: told.GetRule(), Message: new(shown.Message)}
	if told.HasField() {
		built.Field = validate.FieldPath_builder{Elements: elements}.Build()
	}
	if told.HasRuleId() {
		built.RuleId = new(told.GetRuleId())
	}
	if told.HasForKey() {
		built.ForKey = new(told.GetForKey())
	}
	return built.Build(), shown
}

// follow walks along a path from the root. shown is the path without the keys of hidden
// maps. hidden is true if a field on the path is hidden. judged is the type of the message
// at the end of the path, or of the messages in the list or map there. It is nil if the
// path ends at anything else.
func (v *viewer) follow(path []*validate.FieldPathElement) (shown []*validate.FieldPathElement, hidden bool, judged protoreflect.MessageDescriptor) {
	shown = path
	judged = v.root
	for i, element := range path {
		if judged == nil {
			return nil, true, nil // the path does not match the root's type: assume that it is hidden
		}
		field := judged.Fields().ByNumber(protoreflect.FieldNumber(element.GetFieldNumber()))
		if field == nil { // a oneof
			return shown, hidden || element.HasFieldNumber(), nil
		}
		hidden = hidden || fieldpath.Redacted(field)
		judged = fieldpath.MessageIn(field)
		if hidden && field.IsMap() {
			if &shown[0] == &path[0] {
				shown = append([]*validate.FieldPathElement(nil), path...) // paths share their elements
			}
			shown[i] = proto.CloneOf(element)
			shown[i].ClearSubscript()
		}
	}
	return shown, hidden, judged
}

// mayHold reports whether a message of a type may contain a hidden field, at any depth.
// An Any and extensions may contain anything.
func (v *viewer) mayHold(descriptor protoreflect.MessageDescriptor) bool {
	if descriptor == nil {
		return false
	}
	known, ok := v.holds[descriptor]
	if !ok {
		known = mayHold(descriptor, make(map[protoreflect.MessageDescriptor]bool))
		v.holds[descriptor] = known
	}
	return known
}

func mayHold(descriptor protoreflect.MessageDescriptor, seen map[protoreflect.MessageDescriptor]bool) bool {
	if seen[descriptor] {
		return false // this type is already being checked
	}
	seen[descriptor] = true
	if descriptor.FullName() == anyName || descriptor.ExtensionRanges().Len() > 0 {
		return true
	}
	for i := range descriptor.Fields().Len() {
		field := descriptor.Fields().Get(i)
		if held := fieldpath.MessageIn(field); fieldpath.Redacted(field) || held != nil && mayHold(held, seen) {
			return true
		}
	}
	return false
}

// sizes are protovalidate's rules about the size of a value. Their limits show nothing of
// the value, unlike for example the list of not_in.
var sizes = map[protoreflect.Name]bool{
	"len": true, "min_len": true, "max_len": true,
	"len_bytes": true, "min_bytes": true, "max_bytes": true,
	"min_items": true, "max_items": true,
	"min_pairs": true, "max_pairs": true,
}

// outline describes a violation only by its rule.
func outline(violation *protovalidate.Violation) string {
	rule := violation.Proto.GetRuleId()
	standard := violation.RuleDescriptor != nil && !violation.RuleDescriptor.IsExtension()
	switch {
	case violation.Proto.GetMessage() == notEvaluated:
		return notEvaluated
	case standard && violation.RuleDescriptor.FullName() == "buf.validate.FieldRules.required":
		return "value is required"
	case rule == "":
		return "breaks a rule; the value is not shown"
	case standard && sizes[violation.RuleDescriptor.Name()] && violation.RuleValue.IsValid():
		if size, ok := violation.RuleValue.Interface().(uint64); ok {
			return fmt.Sprintf("breaks the rule %s = %d; the value is not shown", rule, size)
		}
	}
	return "breaks the rule " + rule + "; the value is not shown"
}
