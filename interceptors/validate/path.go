package validate

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
)

const (
	// maxKeyBytes bounds a map's key in a path, maxPathBytes a path. The sender
	// picks both, and a path is told of each violation.
	maxKeyBytes  = 256
	maxPathBytes = 1024
)

// pathOf gives a path in words, such as `items[2].price` and `labels["a"]`.
func pathOf(elements []*validate.FieldPathElement) string {
	var path strings.Builder
	for _, element := range elements {
		if path.Len() > maxPathBytes {
			break
		}
		writeName(&path, element.GetFieldName())
		switch element.WhichSubscript() {
		case validate.FieldPathElement_Index_case:
			writeSubscript(&path, strconv.FormatUint(element.GetIndex(), 10))
		case validate.FieldPathElement_BoolKey_case:
			writeSubscript(&path, strconv.FormatBool(element.GetBoolKey()))
		case validate.FieldPathElement_IntKey_case:
			writeSubscript(&path, strconv.FormatInt(element.GetIntKey(), 10))
		case validate.FieldPathElement_UintKey_case:
			writeSubscript(&path, strconv.FormatUint(element.GetUintKey(), 10))
		case validate.FieldPathElement_StringKey_case:
			writeSubscript(&path, quote(element.GetStringKey()))
		default:
		}
	}
	return shorten(path.String(), maxPathBytes)
}

func writeName(path *strings.Builder, name string) {
	if path.Len() > 0 {
		path.WriteByte('.')
	}
	path.WriteString(name)
}

func writeSubscript(path *strings.Builder, subscript string) {
	path.WriteByte('[')
	path.WriteString(subscript)
	path.WriteByte(']')
}

func quote(key string) string { return strconv.Quote(shorten(key, maxKeyBytes)) }

// shorten cuts a text that is longer than limit bytes, between characters, and
// says so by an ellipsis.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}

// withoutSubscripts returns a path as pathOf makes it, such as
// `labels["a"].names[2]`, with empty subscripts: the keys of maps are contents of
// a message, which are not for a log.
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
		} else if strings.HasPrefix(rest, `"`) { // the path was cut in a key
			return out.String()
		}
		if _, path, found = strings.Cut(rest, "]"); !found {
			return out.String()
		}
	}
}
