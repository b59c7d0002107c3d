package quote_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/onecall-dev/onecall/internal/quote"
)

func TestTextFromOutsideIsShownShortAndOnOneLine(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct{ text, line, quoted string }{
		"plain text":         {"auth", "auth", `"auth"`},
		"quotes":             {`a "b" \c`, `a "b" \c`, `"a \"b\" \\c"`},
		"a line break":       {"a\nERROR b", `a\nERROR b`, `"a\nERROR b"`},
		"a terminal's codes": {"\x1b[31m", `\x1b[31m`, `"\x1b[31m"`},
		"no UTF-8":           {"a\xffb", `a\xffb`, `"a\xffb"`},
		"U+FFFD itself":      {"a\ufffdb\n", `a` + "\ufffd" + `b\n`, `"a` + "\ufffd" + `b\n"`},
		"text's direction":   {"a\u202eb", `a\u202eb`, `"a\u202eb"`},
		"one byte too long":  {strings.Repeat("a", 101), strings.Repeat("a", 100) + "…", `"` + strings.Repeat("a", 100) + `…"`},
		"a cut in a letter":  {strings.Repeat("a", 99) + "äb", strings.Repeat("a", 99) + "…", `"` + strings.Repeat("a", 99) + `…"`},
		"no letters at all":  {strings.Repeat("\x80", 101), "…", `"…"`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if got := quote.Line(test.text, quote.TextLimit); got != test.line {
				t.Errorf("Line = %q, want %q", got, test.line)
			}
			if got := quote.Text(test.text); got != test.quoted {
				t.Errorf("Text = %q, want %q", got, test.quoted)
			}
		})
	}
}

func TestManyNamesAreShownByTheFirst(t *testing.T) {
	t.Parallel()
	if got := quote.Names([]string{"a", "b\n", "c"}, 2); got != `a, b\n and 1 more` {
		t.Errorf("Names = %q", got)
	}
	if got := quote.Names([]string{"a", "b"}, 2); got != "a, b" {
		t.Errorf("Names = %q", got)
	}
}

func FuzzALineIsShortAndPrintable(f *testing.F) {
	f.Add("a\nb\xff\x1b", 3)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 0 {
			limit = -(limit + 1)
		}
		limit %= 1000
		line := quote.Line(text, limit)
		// An escape of one byte has at most ten.
		if !utf8.ValidString(line) || strings.ContainsAny(line, "\n\r\x1b") || len(line) > 10*limit+len("…") {
			t.Errorf("Line(%q, %d) = %q", text, limit, line)
		}
	})
}
