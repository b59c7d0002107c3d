package protoargs

import (
	"reflect"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/quote"
)

// The longest parts of a text that are shown, in bytes before quoting.
const (
	// MaxName bounds the name of a field, an enum value or an RPC.
	MaxName = 60
	// MaxPath bounds a path, and a list of names.
	MaxPath = 300

	maxType  = 80
	maxValue = 40
)

// PlainName returns a name unchanged if it has the form of a name, else quoted.
func PlainName(name string) string {
	if name == "" || len(name) > MaxName || strings.ContainsFunc(name, func(char rune) bool { return !IsWord(char) }) {
		return quote.Quoted(name, MaxName)
	}
	return name
}

// IsWord reports whether names may contain a character.
func IsWord(char rune) bool {
	return 'a' <= char && char <= 'z' || 'A' <= char && char <= 'Z' || '0' <= char && char <= '9' || char == '_'
}

// FullName returns the name of a type in its .proto file.
func FullName(desc protoreflect.Descriptor) string {
	return quote.Clip(string(desc.FullName()), maxType)
}

// TypeOf returns the name of a value's Go type. It never shows the value.
func TypeOf(v any) string {
	if v == nil {
		return "nil"
	}
	return TypeName(reflect.TypeOf(v))
}

// TypeName returns a short name of a Go type. The name may contain the tags of a struct.
func TypeName(t reflect.Type) string {
	return quote.Clip(strings.ToValidUTF8(strings.ReplaceAll(t.String(), "interface {}", "any"), "?"), maxType)
}

// FieldNames returns the names of a message's fields.
func FieldNames(desc protoreflect.MessageDescriptor) []string {
	names := make([]string, 0, desc.Fields().Len())
	for i := range desc.Fields().Len() {
		names = append(names, string(desc.Fields().Get(i).Name()))
	}
	return names
}

// Listed joins words with commas, and the last one with and, such as "and" or "or".
func Listed(words []string, and string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + and + " " + words[len(words)-1]
}
