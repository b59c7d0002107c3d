// Package nearest finds the name that a misspelt name was meant to be.
package nearest

import (
	"cmp"
	"slices"
	"strings"
)

// maxLength bounds the names that are compared: the work grows with the product
// of their lengths.
const maxLength = 128

// Names returns those known names that a misspelt name may have been meant to be, the
// nearest first, at most limit. A name may be off by a third of its letters:
// one that was added, left out or replaced counts one, and so do two
// neighbours that changed places (the Damerau-Levenshtein distance, optimal
// string alignment). Case does not count. Names that begin with name and a dot come last.
func Names(name string, known []string, limit int) []string {
	type candidate struct {
		name string
		off  int
	}
	var near []candidate
	for _, other := range known {
		if len(name) > maxLength || len(other) > maxLength {
			continue
		}
		if off := distance(fold(name), fold(other)); off <= max(len(name), len(other))/3 {
			near = append(near, candidate{other, off})
		} else if strings.HasPrefix(other, name+".") {
			near = append(near, candidate{other, maxLength})
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.name, b.name))
	})
	names := make([]string, 0, limit)
	for _, c := range near[:min(len(near), limit)] {
		names = append(names, c.name)
	}
	return names
}

// fold returns the bytes of a name in lower case; names are ASCII, and in any
// other text only the bytes that are letters change.
func fold(name string) []byte {
	out := []byte(name)
	for i, char := range out {
		if 'A' <= char && char <= 'Z' {
			out[i] = char + ('a' - 'A')
		}
	}
	return out
}

// distance is how many edits lie between two names.
func distance(a, b []byte) int {
	// Three rows of the table: of a's prefixes that are two shorter, one
	// shorter, and the present one.
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			replaced := last[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
