package protoargs

import (
	"fmt"
	"strings"

	"github.com/onecall-dev/onecall/internal/quote"
)

// The longest parts of an argument that are shown, in bytes before quoting.
const (
	maxValueEcho = 40
	maxNameEcho  = 60
	maxTypeEcho  = 80
	maxPath      = 300
	maxUsage     = 700
)

// plainName returns a name unchanged if it has the form of a name, else quoted.
func plainName(name string) string {
	if name == "" || len(name) > maxNameEcho || strings.ContainsFunc(name, func(char rune) bool { return !isWord(char) }) {
		return quote.Quoted(name, maxNameEcho)
	}
	return name
}

// goType returns the name of a value's Go type. It never shows the value.
func goType(v any) string {
	if v == nil {
		return "nil"
	}
	return quoteless(fmt.Sprintf("%T", v))
}

// quoteless returns a short name of a Go type. The name may contain the tags of a struct.
func quoteless(name string) string {
	return quote.Clip(strings.ToValidUTF8(strings.ReplaceAll(name, "interface {}", "any"), "?"), maxTypeEcho)
}

// listed joins words with commas, and the last one with and, such as "and" or "or".
func listed(words []string, and string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + and + " " + words[len(words)-1]
}
