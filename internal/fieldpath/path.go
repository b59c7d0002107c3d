package fieldpath

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/internal/quote"
)

// Path is the way from a message to a value in it.
type Path []Step

// Step is one element of a path. It is a field if Field is set, a key of a map if Key is
// valid, and otherwise an index of a list.
type Step struct {
	Field string
	Key   protoreflect.MapKey
	Index int
	// Hidden is true if the key must not be shown.
	Hidden bool
}

// Text returns a path as protovalidate writes it, such as items[2].price or labels["a"].
// The text is cut to limit bytes, and each key to a quarter of that.
func (p Path) Text(limit int) string {
	var out strings.Builder
	for _, at := range p {
		switch {
		case out.Len() > limit:
			return quote.Clip(out.String(), limit)
		case at.Field != "":
			if out.Len() > 0 {
				out.WriteByte('.')
			}
			out.WriteString(at.Field)
		case at.Hidden:
			out.WriteString("[…]")
		case at.Key.IsValid():
			out.WriteString("[" + keyText(at.Key, limit/4) + "]")
		default:
			out.WriteString("[" + strconv.Itoa(at.Index) + "]")
		}
	}
	return quote.Clip(out.String(), limit)
}

func keyText(key protoreflect.MapKey, limit int) string {
	if text, ok := key.Interface().(string); ok {
		return quote.Quoted(text, limit)
	}
	return key.String()
}

// Of returns the path of a [Walk]'s current value. It also reports whether the value must
// not be shown: if hidden is true, or if a field on the path is redacted.
func Of(walked protopath.Path, hidden bool) (Path, bool) {
	path := make(Path, 0, len(walked))
	for _, at := range walked {
		switch at.Kind() {
		case protopath.FieldAccessStep:
			hidden = hidden || Redacted(at.FieldDescriptor())
			path = append(path, Step{Field: at.FieldDescriptor().TextName()})
		case protopath.ListIndexStep:
			path = append(path, Step{Index: at.ListIndex()})
		case protopath.MapIndexStep:
			path = append(path, Step{Key: at.MapIndex(), Hidden: hidden})
		default:
		}
	}
	return path, hidden
}

// Walk calls push for each value in a message before the values inside it, and pop after
// them. It does not look into an Any. It ends if push returns an error.
func Walk(message protoreflect.Message, push, pop func(protopath.Values) error) {
	// Only push and pop return errors, so the caller already has them.
	_ = protorange.Options{Resolver: (*protoregistry.Types)(nil)}.Range(message, push, pop)
}
