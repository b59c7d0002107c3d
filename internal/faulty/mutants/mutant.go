package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// mutant is a change of the code that breaks a promise.
type mutant struct {
	name string
	// breaks is the promise, in one sentence.
	breaks string
	edits  []edit
	// suites are the tests of which at least one must fail.
	suites []suite
	// harmless is true if another layer keeps the promise, so that all suites must
	// pass. It proves that this layer alone is enough.
	harmless bool
	// needs is what it breaks of some ways of calls only, "" if it concerns each way.
	needs part
}

// suite is a list of tests of one package.
type suite struct {
	pkg   string // from the module's root, as the go command takes it
	tests []string
}

// overlay writes the mutated files into a folder, and returns the path of the overlay
// file for the go command.
func (m mutant) overlay(root, folder string) (string, error) {
	code := sources{root: root, changed: make(map[string]string)}
	for _, e := range m.edits {
		if err := code.apply(e); err != nil {
			return "", err
		}
	}
	replace := make(map[string]string)
	for i, path := range slices.Sorted(maps.Keys(code.changed)) {
		mutated := filepath.Join(folder, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(mutated, []byte(code.changed[path]), 0o600); err != nil {
			return "", err
		}
		replace[path] = mutated
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(folder, "overlay.json")
	return name, os.WriteFile(name, data, 0o600)
}
