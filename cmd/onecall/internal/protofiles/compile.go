package protofiles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Folders are folders of .proto files. A file imports another by its path in one of them.
type Folders struct {
	// Sources have the files to compile.
	Sources []string
	// Imports have files that those of Sources import.
	Imports []string
	// Warn gets the warnings, each with file, line and column. nil is none.
	Warn func(warning string)
}

// Errors are the errors of .proto files. Each begins with file, line and column.
type Errors []string

// Error implements error.
func (e Errors) Error() string { return strings.Join(e, "\n") }

// Compile compiles all files of the sources, and returns them in the order of their paths.
// Errors of the files are of type [Errors].
func (f Folders) Compile(ctx context.Context) (linker.Files, error) {
	found, err := f.find()
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no .proto file in %s", strings.Join(f.Sources, ", "))
	}
	reports := &reports{folders: f, found: found}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: func(path string) (io.ReadCloser, error) { return f.open(found, path) }}),
		Reporter:       reporter.NewReporter(reports.add, reports.warn),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, slices.Sorted(maps.Keys(found))...)
	if found, ok := errors.AsType[reporter.ErrorWithPos](err); ok && len(reports.errors) == 0 { // of an import
		reports.errors = append(reports.errors, found)
	}
	if len(reports.errors) > 0 {
		return nil, reports.sorted()
	}
	return files, err
}

// find returns the files of the sources: the names by the paths of imports. It leaves out
// hidden folders, and copies of the files that are built in.
func (f Folders) find() (map[string]string, error) {
	found := make(map[string]string)
	for _, folder := range f.Sources {
		err := filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && name != folder && strings.HasPrefix(entry.Name(), ".") {
				return fs.SkipDir
			}
			if entry.IsDir() || filepath.Ext(name) != ".proto" {
				return nil
			}
			relative, err := filepath.Rel(folder, name)
			if err != nil {
				return err
			}
			path := filepath.ToSlash(relative)
			if _, builtin := Builtin()[path]; builtin {
				return nil
			}
			if other, ok := found[path]; ok {
				return fmt.Errorf("%s and %s have the same path of imports, %s: remove or rename one", other, name, path)
			}
			found[path] = name
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// open opens a file by its path of imports.
func (f Folders) open(found map[string]string, path string) (io.ReadCloser, error) {
	if text, ok := Builtin()[path]; ok {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	if name, ok := found[path]; ok {
		return os.Open(name) //nolint:gosec // a file of the folder that the user names
	}
	for _, folder := range f.Imports {
		file, err := os.Open(filepath.Join(folder, filepath.FromSlash(path))) //nolint:gosec // the same
		if !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
	}
	return nil, fs.ErrNotExist
}

// reports collects the errors of a compilation.
type reports struct {
	folders Folders
	found   map[string]string
	errors  []reporter.ErrorWithPos
}

// add adds an error. The compilation goes on, to find others.
func (r *reports) add(err reporter.ErrorWithPos) error {
	r.errors = append(r.errors, err)
	return nil
}

func (r *reports) warn(err reporter.ErrorWithPos) {
	if r.folders.Warn != nil {
		r.folders.Warn(r.text(err))
	}
}

// sorted returns the errors in the order of their positions.
func (r *reports) sorted() Errors {
	slices.SortStableFunc(r.errors, func(a, b reporter.ErrorWithPos) int {
		left, right := a.GetPosition(), b.GetPosition()
		if order := strings.Compare(left.Filename, right.Filename); order != 0 {
			return order
		}
		return left.Offset - right.Offset
	})
	var out Errors
	for _, err := range r.errors {
		out = append(out, r.text(err))
	}
	return slices.Compact(out)
}

// text returns an error with the name of its file, instead of its path of imports.
func (r *reports) text(err reporter.ErrorWithPos) string {
	at := err.GetPosition()
	if name, ok := r.found[at.Filename]; ok {
		at.Filename = name
	}
	text := err.Unwrap().Error()
	if errors.Is(err, fs.ErrNotExist) {
		text += " in " + strings.Join(slices.Concat(r.folders.Sources, r.folders.Imports), ", ")
	}
	return at.String() + ": " + text
}

// Ordered returns files with all that they import, each after its imports.
func Ordered(files linker.Files) []*descriptorpb.FileDescriptorProto {
	var out []*descriptorpb.FileDescriptorProto
	seen := make(map[string]bool)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		imports := file.Imports()
		for i := range imports.Len() {
			add(imports.Get(i).FileDescriptor)
		}
		out = append(out, protoutil.ProtoFromFileDescriptor(file))
	}
	for _, file := range files {
		add(file)
	}
	return out
}
