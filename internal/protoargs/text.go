package protoargs

import (
	"fmt"
	"strings"

	"github.com/onecall-dev/onecall/internal/quote"
)

// The longest quotations of an argument, in bytes before quoting.
const (
	maxValueEcho = 40
	maxNameEcho  = 60
	maxTypeEcho  = 80
	maxPath      = 300
	maxUsage     = 700
)

// plainName returns a name as it is when it is one, and quoted otherwise.
func plainName(name string) string {
	if name == "" || len(name) > maxNameEcho || strings.ContainsFunc(name, func(char rune) bool { return !isWord(char) }) {
		return quote.Quoted(name, maxNameEcho)
	}
	return name
}

// goType names the Go type of a value. It never shows the value.
func goType(v any) string {
	if v == nil {
		return "nil"
	}
	return quoteless(fmt.Sprintf("%T", v))
}

// quoteless returns the name of a Go type, which may hold a struct's tags.
func quoteless(name string) string {
	return quote.Clip(strings.ToValidUTF8(strings.ReplaceAll(name, "interface {}", "any"), "?"), maxTypeEcho)
}

// listed joins words with commas and "and".
func listed(words []string, and string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + and + " " + words[len(words)-1]
}
