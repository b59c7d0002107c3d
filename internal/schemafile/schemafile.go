// Package schemafile reads and writes files of schemas.
package schemafile

import (
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
)

// File is the content of a file of schemas, as JSON.
type File struct {
	// Caller is the name of the program that uses the RPCs, "" if the schemas are those of
	// services.
	Caller string `json:"caller,omitempty"`
	APIs   []API  `json:"apis"`
}

// API is one version of an API.
type API struct {
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
func (a API) String() string {
	if a.Version == "" {
		return fmt.Sprintf("%s (%s)", a.API, a.Service)
	}
	return fmt.Sprintf("%s (%s, version %s)", a.API, a.Service, a.Version)
}

// Unpack returns the schema.
func (a API) Unpack() (*schema.Schema, error) {
	return schema.Unpack(string(a.Descriptors), a.Service)
}

// Linked returns the schema of a service that is linked into the program.
func Linked(name string, service protoreflect.ServiceDescriptor) (API, error) {
	digest, err := schema.Digest(service)
	if err != nil {
		return API{}, err
	}
	packed, err := schema.Of(service).Pack()
	if err != nil {
		return API{}, err
	}
	return API{API: name, Service: string(service.FullName()), Schema: digest, Descriptors: []byte(packed)}, nil
}

// Compiled returns the schema of a service in compiled .proto files. comments returns those
// of a file.
func Compiled(service protoreflect.ServiceDescriptor, comments func(path string) *descriptorpb.SourceCodeInfo) (API, error) {
	packed, err := schema.Compiled(service, comments).Pack()
	if err != nil {
		return API{}, err
	}
	read, err := schema.Unpack(packed, string(service.FullName()))
	if err != nil {
		return API{}, err
	}
	declared, err := contract.FromDescriptor(read.Service)
	if err != nil {
		return API{}, err
	}
	return API{API: declared.Name, Service: declared.Service, Schema: read.PublishedDigest(), Descriptors: []byte(packed)}, nil
}

// Read reads a file.
func Read(path string) (File, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the user names it, G304
	if err != nil {
		return File{}, err
	}
	var content File
	if err := json.Unmarshal(data, &content); err != nil {
		return File{}, fmt.Errorf("%s is no file of schemas: %w", path, err)
	}
	if len(content.APIs) == 0 {
		return File{}, fmt.Errorf("%s has no API: write it again", path)
	}
	return content, nil
}

// Write writes a file.
func (f File) Write(path string) error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	const mode = 0o644
	return os.WriteFile(path, append(data, '\n'), mode)
}
