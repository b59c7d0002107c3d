package nearest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/internal/nearest"
)

func TestNames(t *testing.T) {
	t.Parallel()
	known := []string{"auth", "author", "billing", "billing.invoices", "user", "user-admin"}
	for name, want := range map[string][]string{
		"auht":            {"auth"},           // two swapped neighbours
		"Auth":            {"auth", "author"}, // case is ignored
		"bilings":         {"billing"},
		"billing.invoice": {"billing.invoices"},
		"usr":             {"user"},
		"billing":         {"billing", "billing.invoices"}, // the name itself comes before names with this prefix
		"":                {},
		"zebra":           {},
		"a":               {},

		strings.Repeat("a", 1<<20): {}, // too long for a typing error
	} {
		t.Run(name, func(t *testing.T) {
			if got := nearest.Names(name, known, 3); !slices.Equal(got, want) {
				t.Errorf("nearest to %.20q are %q, want %q", name, got, want)
			}
		})
	}
	if got := nearest.Names("x1", []string{"x4", "x3", "x2"}, 2); !slices.Equal(got, []string{}) {
		t.Errorf("nearest of short names are %q, want none", got)
	}
	if got := nearest.Names("abc1", []string{"abc4", "abc3", "abc2"}, 2); !slices.Equal(got, []string{"abc2", "abc3"}) {
		t.Errorf("of equally near names %q, want the first two in order", got)
	}
}
