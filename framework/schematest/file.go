package schematest

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/onecall-dev/onecall/internal/schema"
)

// file is the content of a file of schemas, as JSON.
type file struct {
	// Caller is the name of the program that uses the RPCs, "" if the schemas are those of
	// services.
	Caller string `json:"caller,omitempty"`
	APIs   []api  `json:"apis"`
}

// api is one version of an API.
type api struct {
	// API is the bus name and Service the full proto name.
	API     string `json:"api"`
	Service string `json:"service"`
	// Version is that of the instance that published the schema, "" if it has none.
	Version string `json:"version,omitempty"`
	// Schema is the digest of the schema.
	Schema string `json:"schema"`
	// RPCs are the bus names of those that the caller uses.
	RPCs []string `json:"rpcs,omitempty"`
	// Descriptors are the packed descriptors, as in a registry.
	Descriptors []byte `json:"descriptors"`
}

// String returns the name of the API for messages.
func (a api) String() string {
	if a.Version == "" {
		return fmt.Sprintf("%s (%s)", a.API, a.Service)
	}
	return fmt.Sprintf("%s (%s, version %s)", a.API, a.Service, a.Version)
}

// unpack returns the schema.
func (a api) unpack() (*schema.Schema, error) { return schema.Unpack(string(a.Descriptors), a.Service) }

// read reads a file.
func read(path string) (file, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the test names it, G304
	if err != nil {
		return file{}, err
	}
	var content file
	if err := json.Unmarshal(data, &content); err != nil {
		return file{}, fmt.Errorf("%s is no file of schematest: %w", path, err)
	}
	if len(content.APIs) == 0 {
		return file{}, fmt.Errorf("%s has no API: write it again with Dump or DumpCalls", path)
	}
	return content, nil
}

// write writes a file.
func (f file) write(path string) error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	const mode = 0o644
	return os.WriteFile(path, append(data, '\n'), mode)
}
