package named

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What is quoted of what a caller gave, in bytes before quoting.
const (
	maxValueEcho = 40
	maxNameEcho  = 60
	maxTypeEcho  = 80
	maxPath      = 300
	maxUsage     = 700
)

// clip cuts text to limit bytes, at the edge of a character.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}

// quote gives text that is printable whatever was given, cut to limit bytes.
func quote(text string, limit int) string { return strconv.Quote(clip(text, limit)) }

// plainName gives a name as it is when it is one, and quoted otherwise.
func plainName(name string) string {
	if name == "" || len(name) > maxNameEcho || strings.ContainsFunc(name, func(char rune) bool { return !isWord(char) }) {
		return quote(name, maxNameEcho)
	}
	return name
}

// goType names the Go type of a value; it never tells the value.
func goType(v any) string {
	if v == nil {
		return "nil"
	}
	return quoteless(fmt.Sprintf("%T", v))
}

// quoteless gives the name of a Go type, which may hold a struct's tags.
func quoteless(name string) string {
	return clip(strings.ToValidUTF8(strings.ReplaceAll(name, "interface {}", "any"), "?"), maxTypeEcho)
}

// listed joins words with commas and "and".
func listed(words []string, and string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + and + " " + words[len(words)-1]
}
