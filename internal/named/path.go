package named

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// step is one element of a path: a field, an index or a key.
type step struct {
	field string
	index int
	key   protoreflect.MapKey
	// hidden says that the key is a value which no error may tell.
	hidden bool
}

// path leads from a request or reply to a field in it.
type path []step

// String writes a path as protobuf's rules do: items[2].price, labels["a"]. One
// that is long loses its middle.
func (p path) String() string {
	var out strings.Builder
	for _, at := range p {
		switch {
		case at.field != "":
			if out.Len() > 0 {
				out.WriteByte('.')
			}
			out.WriteString(at.field)
		case at.hidden:
			out.WriteString("[…]")
		case at.key.IsValid():
			out.WriteString("[" + keyText(at.key) + "]")
		default:
			out.WriteString("[" + strconv.Itoa(at.index) + "]")
		}
	}
	text := out.String()
	if len(text) <= maxPath {
		return text
	}
	tail := text[len(text)-maxPath/2:]
	return clip(text, maxPath/2) + strings.TrimLeftFunc(strings.ToValidUTF8(tail, ""), isWord)
}

func keyText(key protoreflect.MapKey) string {
	if text, ok := key.Interface().(string); ok {
		return quote(text, maxValueEcho)
	}
	return key.String()
}
