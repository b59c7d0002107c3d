package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/cmd/onecall/internal/generator"
	"github.com/onecall-dev/onecall/cmd/onecall/internal/protofiles"
)

// fileRecord is a file that a command writes, in the output.
type fileRecord struct {
	File string `json:"file"`
	// State is "written", or "unchanged" if the file had its content already.
	State string `json:"state"`
}

var fileColumns = []string{"FILE", "STATE"}

func (f fileRecord) cells() []string { return []string{f.File, f.State} }

func newFileRecord(name string, written bool) fileRecord {
	if written {
		return fileRecord{name, "written"}
	}
	return fileRecord{name, "unchanged"}
}

// protoFolder is the folder of .proto files in a project that new makes.
const protoFolder = "proto"

func (p *program) generate() *cobra.Command {
	var imports []string
	command := &cobra.Command{
		Use:   "generate [FOLDER]...",
		Short: "Generate the Go of a project's .proto files",
		Long: `Generate the Go of all .proto files in folders, by default in the folder proto: messages,
clients and servers of gRPC, and comments for descriptions. A file imports others by their
paths in these folders. It can also import onecall/v1/options.proto,
buf/validate/validate.proto and the files below google/protobuf, without copies of them.

The plugins are tools of the project's go.mod, so that it has their versions: protoc-gen-go,
protoc-gen-go-grpc and protoc-gen-onecall. The option go_package of each file says in which
folder of the module its Go is. Errors of .proto files have file, line and column, and then
nothing is written. The exit code is also 1 if a file of the plugins is left that no .proto
file has the source of; the command names it and does not remove it.`,
		Example: `  onecall generate` + "\n" + `  onecall generate proto internal/proto -I third_party`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{protoFolder}
			}
			return p.runGenerate(cmd.Context(), protofiles.Folders{Sources: args, Imports: imports})
		},
	}
	command.Flags().StringArrayVarP(&imports, "import", "I", nil, "folder of .proto files that others import, and whose Go is not generated; can be repeated")
	return command
}

func (p *program) runGenerate(ctx context.Context, folders protofiles.Folders) error {
	folders.Warn = func(warning string) { fmt.Fprintln(p.errs, warning) }
	files, err := generator.Project{Log: p.errs}.Generate(ctx, folders)
	if _, stale := errors.AsType[*generator.StaleError](err); err != nil && !stale {
		return p.protoErrors(err)
	}
	var records []fileRecord
	for _, file := range files {
		records = append(records, newFileRecord(file.Name, file.Written))
	}
	if wrote := writeTable(p, fileColumns, records); wrote != nil {
		return wrote
	}
	return err
}

// protoErrors prints the errors of .proto files, each on a line, and returns how many there
// are. It returns other errors as they are.
func (p *program) protoErrors(err error) error {
	found, ok := errors.AsType[protofiles.Errors](err)
	if !ok {
		return err
	}
	for _, each := range found {
		fmt.Fprintln(p.errs, each)
	}
	return fmt.Errorf("the .proto files have %d %s", len(found), plural(len(found), "error", "errors"))
}

func plural(count int, one, many string) string {
	if count == 1 {
		return one
	}
	return many
}
