package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// contexts are the content of the user's file.
type contexts struct {
	// Current is the name of the context that is used without --context, "" if there is
	// none.
	Current  string              `yaml:"current,omitempty"`
	Contexts map[string]settings `yaml:"contexts,omitempty"`
}

var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// contextsFile returns the name of the user's file.
func contextsFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("the folder for configuration is not known: %w", err)
	}
	return filepath.Join(dir, "onecall", "contexts.yaml"), nil
}

// readContexts returns the contexts of the user, none if there is no file.
func readContexts() (contexts, error) {
	name, err := contextsFile()
	if err != nil {
		return contexts{}, nil //nolint:nilerr // without such a folder there is no context
	}
	content, err := os.ReadFile(name) //nolint:gosec // the user's own file
	if errors.Is(err, fs.ErrNotExist) {
		return contexts{}, nil
	}
	var read contexts
	if err == nil {
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		decoder.KnownFields(true)
		if err = decoder.Decode(&read); errors.Is(err, io.EOF) {
			err = nil // an empty file
		}
	}
	if err != nil {
		return contexts{}, fmt.Errorf("the contexts cannot be read: %s: %w: correct the file, or remove it", name, err)
	}
	return read, nil
}

// write replaces the file, which only the user can read.
func (c contexts) write() error {
	name, err := contextsFile()
	if err != nil {
		return err
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(columnGap)
	if err := encoder.Encode(c); err != nil {
		return err
	}
	return replaceFile(name, text.Bytes())
}

// replaceFile writes a file that only the user can read, at once as a whole.
func replaceFile(name string, content []byte) error {
	const ownFolder = 0o700
	if err := os.MkdirAll(filepath.Dir(name), ownFolder); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // it is gone if all went well
	_, err = file.Write(content)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}

// names returns the names of the contexts, sorted.
func (c contexts) names() []string { return slices.Sorted(maps.Keys(c.Contexts)) }

// named returns a context.
func (c contexts) named(name string) (settings, error) {
	if found, ok := c.Contexts[name]; ok {
		return found, nil
	}
	known := "there is none"
	if len(c.Contexts) > 0 {
		known = "there are " + strings.Join(c.names(), ", ")
	}
	return settings{}, fmt.Errorf("no context has the name %q: %s; make it with: onecall context set NAME --etcd URL", name, known)
}

// context returns the settings of the context in use, none if there is no such context.
func (p *program) context() (settings, error) {
	read, err := readContexts()
	if err != nil {
		return settings{}, err
	}
	switch {
	case p.contextName != "":
		return read.named(p.contextName)
	case read.Current != "":
		return read.named(read.Current)
	default:
		return settings{}, nil
	}
}
