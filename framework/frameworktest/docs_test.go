package frameworktest_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestThePageOfTestingListsEverything compares the tables of docs/testing.md with the
// tests of the suites, and with the faults.
func TestThePageOfTestingListsEverything(t *testing.T) {
	t.Parallel()
	page := contentOf(t, "../../docs/testing.md")
	for header, want := range map[string][]string{
		"| test of a registry |": found(t, "../../discovery/discoverytest/discoverytest.go", `(?m)^\t\t"([^"]+)": +\w+,`),
		"| test of a ledger |":   found(t, "../../interceptors/atmostonce/ledgertest/ledgertest.go", `(?m)^\t\t"([^"]+)": +\w+,`),
		"| fault |":              found(t, "fault.go", `(?m)^func ([A-Z]\w+)\(.*\) Fault \{`),
	} {
		_, table, ok := strings.Cut(page, header)
		if !ok || len(want) == 0 {
			t.Fatalf("the page has no table %q, or its file has nothing", header)
		}
		table, _, _ = strings.Cut(table, "\n\n")
		listed := make(map[string]bool)
		for line := range strings.Lines(table) {
			if cells := strings.Split(line, "|"); len(cells) > 1 && strings.HasPrefix(line, "| ") {
				name, _, _ := strings.Cut(strings.Trim(cells[1], " `"), "(")
				listed[name] = true
			}
		}
		delete(listed, "---")
		if got := slices.Sorted(maps.Keys(listed)); !slices.Equal(got, want) {
			t.Errorf("the table %s has %q, want %q", header, got, want)
		}
	}
}

// found returns what a pattern finds in a file, sorted.
func found(t *testing.T, path, pattern string) []string {
	t.Helper()
	var all []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(contentOf(t, path), -1) {
		all = append(all, match[1])
	}
	slices.Sort(all)
	return all
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
