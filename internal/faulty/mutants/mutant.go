package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is a change that breaks a promise.
type mutant struct {
	name string
	// breaks is the promise, in one sentence.
	breaks string
	edits  []edit
	// suites are the tests of which at least one must fail.
	suites []suite
	// harmless says that another layer keeps the promise, so that all of suites
	// must pass: it is what shows that the layer stands alone.
	harmless bool
}

// edit replaces text in a file.
type edit struct {
	file     string // from the module's root
	old, new string
	times    int // how often old is there; 0 is once
}

// suite is tests of one package.
type suite struct {
	pkg   string // from the module's root, as the go command takes it
	tests []string
}

// staleError is of a mutant whose text is not in the code as often as it should
// be.
type staleError struct {
	file      string
	old       string
	times     int
	wantTimes int
}

// Error implements error.
func (e *staleError) Error() string {
	return fmt.Sprintf("%s has the text %q %d times, not %d: the mutant is to be written anew", e.file, e.old, e.times, e.wantTimes)
}

// overlay writes the mutated files into a folder, and gives the name of the
// file that tells the go command of them.
func (m mutant) overlay(root, folder string) (string, error) {
	texts := make(map[string]string) // by file
	for _, e := range m.edits {
		text, read := texts[e.file]
		if !read {
			data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(e.file))) //nolint:gosec // a name in the table
			if err != nil {
				return "", err
			}
			text = string(data)
		}
		want := max(e.times, 1)
		if got := strings.Count(text, e.old); got != want {
			return "", &staleError{file: e.file, old: e.old, times: got, wantTimes: want}
		}
		texts[e.file] = strings.ReplaceAll(text, e.old, e.new)
	}
	replace := make(map[string]string)
	for i, file := range slices.Sorted(maps.Keys(texts)) {
		mutated := filepath.Join(folder, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(mutated, []byte(texts[file]), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, filepath.FromSlash(file))] = mutated
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(folder, "overlay.json")
	return name, os.WriteFile(name, data, 0o600)
}
