package validate

import (
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
)

// maxPathBytes bounds a path, because the sender chooses the keys in it.
const maxPathBytes = 1024

// pathOf returns a path as text, such as `items[2].price` and `labels["a"]`.
func pathOf(elements []*validate.FieldPathElement) string {
	var path fieldpath.Path
	for _, element := range elements {
		path = append(path, fieldpath.Step{Field: element.GetFieldName()})
		var key protoreflect.Value
		switch element.WhichSubscript() {
		case validate.FieldPathElement_Index_case:
			key = protoreflect.ValueOfUint64(element.GetIndex())
		case validate.FieldPathElement_BoolKey_case:
			key = protoreflect.ValueOfBool(element.GetBoolKey())
		case validate.FieldPathElement_IntKey_case:
			key = protoreflect.ValueOfInt64(element.GetIntKey())
		case validate.FieldPathElement_UintKey_case:
			key = protoreflect.ValueOfUint64(element.GetUintKey())
		case validate.FieldPathElement_StringKey_case:
			key = protoreflect.ValueOfString(element.GetStringKey())
		default:
			continue
		}
		path = append(path, fieldpath.Step{Key: key.MapKey()})
	}
	return path.Text(maxPathBytes)
}

// withoutSubscripts returns a path of pathOf, such as `labels["a"].names[2]`, with empty
// subscripts. The keys of maps are content of the message, which must not be logged.
func withoutSubscripts(path string) string {
	var out strings.Builder
	for {
		name, rest, found := strings.Cut(path, "[")
		out.WriteString(name)
		if !found {
			return out.String()
		}
		out.WriteString("[]")
		if key, err := strconv.QuotedPrefix(rest); err == nil {
			rest = rest[len(key):]
		} else if strings.HasPrefix(rest, `"`) { // the path was cut inside a key
			return out.String()
		}
		if _, path, found = strings.Cut(rest, "]"); !found {
			return out.String()
		}
	}
}
