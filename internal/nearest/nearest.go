// Package nearest finds the correct name for a misspelt one.
package nearest

import (
	"cmp"
	"slices"
	"strings"
)

// maxLength bounds the length of compared names: the time is proportional to the product
// of both lengths.
const maxLength = 128

// Names returns the known names that are similar to a misspelt name, the most similar
// first, at most limit. At most a third of the letters may differ. An added, missing or
// replaced letter counts as one difference, and so do two swapped neighbours (the
// Damerau-Levenshtein distance, optimal string alignment). Case is ignored. Names that
// begin with name and a dot come last.
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

// fold returns a name in lower case. Names are ASCII. In any other text, only ASCII letters
// change.
func fold(name string) []byte {
	out := []byte(name)
	for i, char := range out {
		if 'A' <= char && char <= 'Z' {
			out[i] = char + ('a' - 'A')
		}
	}
	return out
}

// distance returns the number of edits between two names.
func distance(a, b []byte) int {
	// Three rows of the table: for the prefix of a that is two letters shorter, for the
	// one that is one letter shorter, and for the current prefix.
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
