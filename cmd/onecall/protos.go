package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/cmd/onecall/internal/generator"
	"github.com/onecall-dev/onecall/cmd/onecall/internal/protofiles"
)

func (p *program) protos() *cobra.Command {
	var force bool
	command := &cobra.Command{
		Use:   "protos FOLDER",
		Short: "Write the .proto files that others import, for buf, protoc and editors",
		Long: `Write onecall/v1/options.proto and buf/validate/validate.proto into a folder, which is then
a module for buf, or -I for protoc. The command generate needs no copies of them. A file
that has another content is not replaced, and then nothing is written, unless --force says
so.`,
		Example: `  onecall protos third_party`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			records, err := writeProtos(args[0], force)
			if err != nil {
				return err
			}
			return writeTable(p, fileColumns, records)
		},
	}
	command.Flags().BoolVar(&force, "force", false, "replace files that have another content")
	return command
}

// writeProtos writes the built-in files into a folder.
func writeProtos(folder string, force bool) ([]fileRecord, error) {
	files := protofiles.Builtin()
	paths := slices.Sorted(maps.Keys(files))
	var changed []string
	for _, path := range paths {
		name := filepath.Join(folder, filepath.FromSlash(path))
		before, err := os.ReadFile(name) //nolint:gosec // a file of the folder that the user names
		if err == nil && string(before) != files[path] {
			changed = append(changed, name)
		}
	}
	if len(changed) > 0 && !force {
		return nil, fmt.Errorf("%s: another content than that of this version: keep it, or replace it with --force", strings.Join(changed, ", "))
	}
	var records []fileRecord
	for _, path := range paths {
		name := filepath.Join(folder, filepath.FromSlash(path))
		written, err := generator.WriteFile(name, files[path])
		if err != nil {
			return nil, err
		}
		records = append(records, newFileRecord(name, written))
	}
	return records, nil
}
