// Package quote shortens text from outside, such as a registry's, for errors
// and log lines: it keeps them short, on one line, and free of control characters.
package quote

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// TextLimit is the most bytes of a text that [Text] shows.
const TextLimit = 100

// Text returns the first [TextLimit] bytes of text in double quotes, with
// escapes as in Go.
func Text(text string) string { return Quoted(text, TextLimit) }

// Quoted returns the first limit bytes of text in double quotes, with escapes as in
// Go.
func Quoted(text string, limit int) string { return strconv.Quote(Clip(text, limit)) }

// Line returns the first limit bytes of text. It escapes what is not printable,
// and leaves quotes and backslashes as they are.
func Line(text string, limit int) string {
	text = Clip(text, limit)
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unprintable) {
		return escape(text)
	}
	return text
}

func escape(text string) string {
	var out strings.Builder
	for i, char := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		if !unprintable(char) && (char != utf8.RuneError || size > 1) {
			out.WriteRune(char)
			continue
		}
		quoted := strconv.Quote(text[i : i+size])
		out.WriteString(quoted[1 : len(quoted)-1])
	}
	return out.String()
}

func unprintable(char rune) bool { return !unicode.IsPrint(char) }

// Clip returns the first limit bytes of text, or a few less so as not to cut a
// character, and an ellipsis when that is not all of it.
func Clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}

// Names returns names joined by commas: the first most of them, each clipped, and
// how many more there are.
func Names(names []string, most int) string {
	shown := make([]string, 0, min(len(names), most)+1)
	for _, name := range names[:min(len(names), most)] {
		shown = append(shown, Line(name, TextLimit))
	}
	text := strings.Join(shown, ", ")
	if more := len(names) - most; more > 0 {
		text += " and " + strconv.Itoa(more) + " more"
	}
	return text
}
