// Package generator generates the Go of .proto files, with the plugins that are tools in the
// go.mod of a project.
package generator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/onecall-dev/onecall/cmd/onecall/internal/protofiles"
)

// GRPCPlugin is the plugin that has a module, and so a version, of its own.
const GRPCPlugin = "google.golang.org/grpc/cmd/protoc-gen-go-grpc"

// GRPCVersion is the version of the plugin for new projects.
const GRPCVersion = "v1.6.2"

// Plugins are the packages of the plugins.
func Plugins() []string {
	return []string{"google.golang.org/protobuf/cmd/protoc-gen-go", GRPCPlugin, "github.com/onecall-dev/onecall/cmd/protoc-gen-onecall"}
}

// Project is a Go module.
type Project struct {
	// Dir is a folder of the module, "" for the current one.
	Dir string
	// Env are more variables of the environment for the go command.
	Env []string
	// Log gets what the go command prints about its progress and its errors.
	Log io.Writer
}

// File is a generated file.
type File struct {
	// Name is the name of the file, relative to the current folder if that is shorter.
	Name string
	// Written is false if the file already had this content.
	Written bool
}

// StaleError says that files were generated from what the .proto files no longer have.
type StaleError struct{ Names []string }

// Error implements error.
func (e *StaleError) Error() string {
	return "no .proto file has the source of these generated files any more; remove them: " + strings.Join(e.Names, " ")
}

// module is what go mod edit -json prints of a go.mod.
type module struct {
	dir    string
	Module tool   `json:"Module"` //nolint:tagliatelle // as the go command writes it
	Tool   []tool `json:"Tool"`   //nolint:tagliatelle // the same
}

type tool struct {
	Path string `json:"Path"` //nolint:tagliatelle // as the go command writes it
}

// Generate writes the generated files of the sources. The returned files are sorted by name.
// Nothing is written if a .proto file or a plugin has an error. If there are stale files, the
// error is a *[StaleError], and all others were written.
func (p Project) Generate(ctx context.Context, folders protofiles.Folders) ([]File, error) {
	module, err := p.module(ctx)
	if err != nil {
		return nil, err
	}
	compiled, err := folders.Compile(ctx)
	if err != nil {
		return nil, err
	}
	generated := make(map[string]string)
	for _, plugin := range Plugins() {
		if err := p.run(ctx, module, plugin, compiled, generated); err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(plugin), err)
		}
	}
	files, err := write(module.dir, generated)
	if err != nil {
		return nil, err
	}
	return files, stale(module.dir, folders.Sources, generated)
}

// module returns the module of the project. It is an error if a plugin is no tool of it.
func (p Project) module(ctx context.Context) (module, error) {
	name, err := p.output(ctx, "env", "GOMOD")
	if err != nil {
		return module{}, err
	}
	file := strings.TrimSpace(string(name))
	if file == "" || file == os.DevNull {
		return module{}, errors.New("no go.mod in this folder or one above: run this in a Go module, which go mod init makes")
	}
	data, err := p.output(ctx, "mod", "edit", "-json", file)
	if err != nil {
		return module{}, err
	}
	found := module{dir: filepath.Dir(file)}
	if err := json.Unmarshal(data, &found); err != nil {
		return module{}, fmt.Errorf("%s: %w", file, err)
	}
	var missing []string
	for _, plugin := range Plugins() {
		if slices.ContainsFunc(found.Tool, func(t tool) bool { return t.Path == plugin }) {
			continue
		}
		if plugin == GRPCPlugin {
			plugin += "@" + GRPCVersion
		}
		missing = append(missing, plugin)
	}
	if len(missing) > 0 {
		return module{}, fmt.Errorf("%s does not have all plugins as tools: run go get -tool %s", file, strings.Join(missing, " "))
	}
	return found, nil
}

// output runs the go command, and returns its standard output.
func (p Project) output(ctx context.Context, args ...string) ([]byte, error) {
	return p.goCommand(ctx, nil, args...)
}

func (p Project) goCommand(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, "go", args...) //nolint:gosec // of this program
	command.Dir, command.Env = p.Dir, append(os.Environ(), p.Env...)
	command.Stdin, command.Stderr = bytes.NewReader(stdin), p.Log
	out, err := command.Output()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("the go command is not in PATH: install Go from https://go.dev/dl")
	case err != nil:
		return nil, fmt.Errorf("go %s has failed, for the reason above (%w)", strings.Join(args, " "), err)
	}
	return out, nil
}

// AddSums adds to go.sum what the plugins need.
func (p Project) AddSums(ctx context.Context) error {
	_, err := p.output(ctx, "list", "-mod=mod", "-deps", "tool")
	return err
}

// Tidy adds to go.mod and go.sum what the packages of the module need.
func (p Project) Tidy(ctx context.Context) error {
	_, err := p.output(ctx, "mod", "tidy")
	return err
}

// run runs a plugin, and adds the files that it generates.
func (p Project) run(ctx context.Context, of module, plugin string, compiled linker.Files, generated map[string]string) error {
	request := &pluginpb.CodeGeneratorRequest{
		Parameter: new("module=" + of.Module.Path),
		ProtoFile: protofiles.Ordered(compiled),
	}
	for _, file := range compiled {
		request.FileToGenerate = append(request.FileToGenerate, file.Path())
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(request)
	if err != nil {
		return err
	}
	out, err := p.goCommand(ctx, encoded, "tool", plugin)
	if err != nil {
		return err
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(out, response); err != nil {
		return err
	}
	if response.GetError() != "" {
		return errors.New(response.GetError())
	}
	for _, file := range response.GetFile() {
		generated[file.GetName()] = file.GetContent()
	}
	return nil
}
