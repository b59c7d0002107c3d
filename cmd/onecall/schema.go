package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/cmd/onecall/internal/protofiles"
	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/schemafile"
	"github.com/onecall-dev/onecall/proto/sourceinfo"
)

// wholeRegistry is the source of schemas that is all APIs of the registry.
const wholeRegistry = "registry"

const sourceHelp = `A source is a file that dump wrote, a folder of .proto files, "` + wholeRegistry + `" for all APIs that
have instances in the registry, or the name of one API there.`

func (p *program) schema() *cobra.Command {
	command := &cobra.Command{
		Use:   "schema",
		Short: "Write schemas of APIs to files, and compare them",
		Long:  "Write schemas of APIs to files, and compare them.\n\n" + sourceHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(p.schemaDump(), p.schemaDiff())
	return command
}

func (p *program) schemaDump() *cobra.Command {
	var imports []string
	command := &cobra.Command{
		Use:   "dump SOURCE...",
		Short: "Print schemas, for a file",
		Long: `Print the schemas of APIs as one document, for a file. The command schema diff reads it as
JSON, and so does schematest.Fits in the test of a caller.

` + sourceHelp,
		Example: `  onecall schema dump registry > production.schema` + "\n" + `  onecall schema dump proto > new.schema`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var content schemafile.File
			for _, source := range args {
				found, err := p.schemas(cmd.Context(), source, imports)
				if err != nil {
					return err
				}
				content.APIs = append(content.APIs, found...)
			}
			return p.writeValue(content)
		},
	}
	importFlag(command, &imports)
	return command
}

func importFlag(command *cobra.Command, imports *[]string) {
	command.Flags().StringArrayVarP(imports, "import", "I", nil, "folder of .proto files that others import; can be repeated")
}

// schemas returns the schemas of a source. Those of a registry are sorted by the names of
// their APIs, those of .proto files by the paths of the files.
func (p *program) schemas(ctx context.Context, source string, imports []string) ([]schemafile.API, error) {
	info, err := os.Stat(source)
	switch {
	case source == wholeRegistry:
		return p.publishedSchemas(ctx, "")
	case err == nil && info.IsDir():
		return p.compiledSchemas(ctx, protofiles.Folders{Sources: []string{source}, Imports: imports})
	case err == nil:
		content, err := schemafile.Read(source)
		return content.APIs, err
	case strings.ContainsRune(source, filepath.Separator):
		return nil, err
	default:
		return p.publishedSchemas(ctx, source)
	}
}

// compiledSchemas returns the schemas of the services in .proto files.
func (p *program) compiledSchemas(ctx context.Context, folders protofiles.Folders) ([]schemafile.API, error) {
	folders.Warn = func(warning string) { fmt.Fprintln(p.errs, warning) }
	compiled, err := folders.Compile(ctx)
	if err != nil {
		return nil, p.protoErrors(err)
	}
	comments := make(map[string]*descriptorpb.SourceCodeInfo)
	for _, file := range protofiles.Ordered(compiled) {
		if kept := sourceinfo.Comments(file.GetSourceCodeInfo()); len(kept.GetLocation()) > 0 {
			comments[file.GetName()] = kept
		}
	}
	var found []schemafile.API
	for _, file := range compiled {
		for i := range file.Services().Len() {
			one, err := schemafile.Compiled(file.Services().Get(i), func(path string) *descriptorpb.SourceCodeInfo { return comments[path] })
			if err != nil {
				return nil, err
			}
			found = append(found, one)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: the .proto files have no service", strings.Join(folders.Sources, ", "))
	}
	return found, nil
}

// publishedSchemas returns the schemas that instances publish in the registry: of one API,
// or of all if api is "". Instances with the same schema are one.
func (p *program) publishedSchemas(ctx context.Context, api string) ([]schemafile.API, error) {
	registry, err := p.registry()
	if err != nil {
		return nil, err
	}
	defer registry.Close()
	snapshots, err := all(ctx, registry, api)
	if err != nil {
		return nil, err
	}
	var found []schemafile.API
	for _, snapshot := range snapshots {
		if api != "" && len(snapshot.Instances) == 0 {
			return nil, snapshot.Err()
		}
		for _, instance := range snapshot.Instances {
			if slices.ContainsFunc(found, func(a schemafile.API) bool { return a.API == instance.API && a.Schema == instance.Schema }) {
				continue
			}
			one, err := publishedSchema(ctx, registry, instance)
			if err != nil {
				return nil, fmt.Errorf("API %q, the instance at %s: %w", instance.API, instance.Address, err)
			}
			found = append(found, one)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no API has an instance in the registry")
	}
	return found, nil
}

func publishedSchema(ctx context.Context, registry discovery.Registry, instance discovery.Instance) (schemafile.API, error) {
	if instance.Schema == "" {
		return schemafile.API{}, errors.New("it publishes no schema")
	}
	packed, err := registry.Descriptors(ctx, instance)
	if err != nil {
		return schemafile.API{}, err
	}
	one := schemafile.API{API: instance.API, Service: instance.Service, Version: instance.Version, Schema: instance.Schema, Descriptors: []byte(packed)}
	_, err = one.Unpack()
	return one, err
}
