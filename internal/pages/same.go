package pages

import (
	"fmt"
	"regexp"
	"strings"
)

// variable is what differs from run to run, and what it is replaced by.
var variable = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)?`), "TIME"},
	{regexp.MustCompile(`\bseconds:\d+\s+nanos:\d+\b`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`\b[A-Za-z0-9_-]{22}\b`), "RANDOM"},
	{regexp.MustCompile(`\b[A-Z2-7]{26}\b`), "RANDOM"},
	{regexp.MustCompile(`\b(lease=|call=)\S+`), "${1}RANDOM"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms|s|m|h)\b`), "DURATION"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// normal returns lines without what differs from run to run.
func normal(text string) []string {
	for _, each := range variable {
		text = each.pattern.ReplaceAllString(text, each.by)
	}
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// matches reports whether a terminal has printed what a page shows: the same lines, but for
// what differs from run to run. A line "…" in the page is for any number of lines, and "…" in
// a line for any text. If the command goes on, more lines may follow.
func matches(printed, shown string, goesOn bool) bool {
	return matchLines(normal(printed), normal(shown), goesOn)
}

func matchLines(printed, shown []string, goesOn bool) bool {
	switch {
	case len(shown) == 0:
		return goesOn || len(printed) == 0
	case shown[0] == "…":
		for skipped := 0; skipped <= len(printed); skipped++ {
			if matchLines(printed[skipped:], shown[1:], goesOn) {
				return true
			}
		}
		return false
	default:
		return len(printed) > 0 && matchLine(printed[0], shown[0]) && matchLines(printed[1:], shown[1:], goesOn)
	}
}

// matchLine reports whether a line is the one that is shown.
func matchLine(printed, shown string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(shown), "…", ".*")
	return regexp.MustCompile("^" + pattern + "$").MatchString(printed)
}

// difference returns an error that shows both texts.
func difference(printed, shown string) error {
	return fmt.Errorf("the page shows\n%s\nand the commands printed\n%s", shown, printed)
}
