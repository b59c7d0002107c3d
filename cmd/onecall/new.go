package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/onecall-dev/onecall/cmd/onecall/internal/generator"
	"github.com/onecall-dev/onecall/cmd/onecall/internal/protofiles"
	"github.com/onecall-dev/onecall/cmd/onecall/internal/scaffold"
)

// framework is the module of the framework.
const frameworkModule = "github.com/onecall-dev/onecall"

func (p *program) newProject() *cobra.Command {
	var project scaffold.Project
	command := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a project: a service with its API, tests and demo",
		Long: `Make a folder NAME with a service that builds, tests and runs: a Go module, the .proto file
of its API and the Go of that, the handlers, the logic apart from them, tests, a demo, a
Makefile and a Dockerfile. It is a small API that takes orders, to change into your own.

The go command resolves the modules, so it needs the module proxy or its cache. After an
error nothing is left.`,
		Example: `  onecall new shop` + "\n" + `  onecall new shop --module github.com/acme/shop`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			project.Name = args[0]
			if project.Module == "" {
				project.Module = "example.com/" + project.Name
			}
			return p.runNew(cmd.Context(), project)
		},
	}
	command.Flags().StringVar(&project.Module, "module", "", "path of the Go module (default example.com/NAME)")
	command.Flags().StringVar(&project.Checkout, "onecall", "", "folder with the source of Onecall to use, instead of the version of this command")
	return command
}

func (p *program) runNew(ctx context.Context, project scaffold.Project) error {
	if err := project.Check(); err != nil {
		return usage(err)
	}
	if err := resolve(&project); err != nil {
		return usage(err)
	}
	if _, err := os.Lstat(project.Name); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s exists already: choose another name, or remove it", project.Name)
		}
		return err
	}
	folder, err := os.MkdirTemp(".", "."+project.Name+"-")
	if err != nil {
		return fmt.Errorf("a folder cannot be made here: %w", err)
	}
	defer os.RemoveAll(folder) //nolint:errcheck // it is there only after an error
	records, err := p.fill(ctx, project, folder)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted: no project was made")
	case err != nil:
		return err
	}
	if err := os.Rename(folder, project.Name); err != nil {
		return err
	}
	if err := writeTable(p, fileColumns, records); err != nil {
		return err
	}
	fmt.Fprintf(p.errs, "\nThe service is ready: cd %s && make demo && make test. make prints the other targets.\n", project.Name)
	return nil
}

// resolve sets what the project requires: the versions that this command was built with.
func resolve(project *scaffold.Project) error {
	built := make(map[string]string)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Replace == nil && semver.IsValid(dependency.Version) {
				built[dependency.Path] = dependency.Version
			}
		}
	}
	if project.Checkout != "" {
		checkout, err := filepath.Abs(project.Checkout)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(filepath.Join(checkout, "go.mod")) //nolint:gosec // the user names it
		if err != nil || modfile.ModulePath(content) != frameworkModule {
			return fmt.Errorf("--onecall %s: this is no folder with the source of Onecall", project.Checkout)
		}
		project.Checkout, built[frameworkModule] = checkout, "v0.0.0"
	}
	if built[frameworkModule] == "" {
		return errors.New("this command was built from a folder and has no version: name a folder with the source of Onecall, with --onecall")
	}
	project.Plugins = generator.Plugins()
	for _, path := range []string{frameworkModule, "google.golang.org/grpc", "google.golang.org/protobuf"} {
		project.Requires = append(project.Requires, module.Version{Path: path, Version: built[path]})
	}
	project.Requires = append(project.Requires, module.Version{Path: generator.GRPCPlugin, Version: generator.GRPCVersion})
	return nil
}

// fill writes the project into a folder.
func (p *program) fill(ctx context.Context, project scaffold.Project, folder string) ([]fileRecord, error) {
	files, err := project.Files()
	if err != nil {
		return nil, err
	}
	for path, text := range protofiles.Builtin() {
		files["third_party/"+path] = text
	}
	for path, text := range files {
		if _, err := generator.WriteFile(filepath.Join(folder, filepath.FromSlash(path)), text); err != nil {
			return nil, err
		}
	}
	// The project is outside of a workspace that this folder may be in.
	in := generator.Project{Dir: folder, Env: []string{"GOWORK=off"}, Log: p.errs}
	fmt.Fprintln(p.errs, "compiling the plugins, and generating Go from the .proto file")
	if err := in.AddSums(ctx); err != nil {
		return nil, err
	}
	generated, err := in.Generate(ctx, protofiles.Folders{Sources: []string{filepath.Join(folder, protoFolder)}})
	if err != nil {
		return nil, err
	}
	for _, file := range generated {
		path, err := filepath.Rel(folder, file.Name)
		if err != nil {
			return nil, err
		}
		files[filepath.ToSlash(path)] = ""
	}
	fmt.Fprintln(p.errs, "resolving the modules")
	if err := in.Tidy(ctx); err != nil {
		return nil, err
	}
	files["go.sum"] = ""
	const mode = 0o755 // MkdirTemp makes a private folder
	if err := os.Chmod(folder, mode); err != nil {
		return nil, err
	}
	var records []fileRecord
	for _, path := range slices.Sorted(maps.Keys(files)) {
		records = append(records, newFileRecord(filepath.Join(project.Name, filepath.FromSlash(path)), true))
	}
	return records, nil
}
