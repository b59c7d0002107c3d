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

// Path leads from a message to a value in it.
type Path []Step

// Step is one element of a path: a field, if it has a name, else a key of a map or an
// index of a list.
type Step struct {
	Field string
	Key   protoreflect.MapKey
	Index int
	// Hidden says that the key is a value that may not be shown.
	Hidden bool
}

// Text returns the first bytes of a path in words, as protovalidate writes it:
// items[2].price, labels["a"]. Of a key it has a quarter of that at most.
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

// Of returns the path that a [Walk] is at, and whether what is there may not be shown,
// because the walk goes through a redacted field or all of it is hidden.
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

// Walk calls push with each value in a message, before the values in it, and pop after
// them. It does not look into an Any. It ends when push returns an error.
func Walk(message protoreflect.Message, push, pop func(protopath.Values) error) {
	// Only push and pop have errors, and they know them.
	_ = protorange.Options{Resolver: (*protoregistry.Types)(nil)}.Range(message, push, pop)
}
