package protofiles_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/cmd/onecall/internal/protofiles"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// folder returns a folder with files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		name := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTheBuiltInFilesAreThoseOfTheLinkedCode compiles the built-in files, and compares them
// with the descriptors in the generated code that programs link.
func TestTheBuiltInFilesAreThoseOfTheLinkedCode(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString(`syntax = "proto3";` + "\n")
	for path := range protofiles.Builtin() {
		fmt.Fprintf(&text, "import %q;\n", path)
	}
	compiled, err := protofiles.Folders{Sources: []string{folder(t, map[string]string{"x.proto": text.String()})}}.Compile(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]*descriptorpb.FileDescriptorProto)
	for _, file := range protofiles.Ordered(compiled) {
		got[file.GetName()] = file
	}
	linked := []protoreflect.FileDescriptor{validate.File_buf_validate_validate_proto, onecallv1.File_onecall_v1_options_proto}
	if len(linked) != len(protofiles.Builtin()) {
		t.Errorf("%d files are built in", len(protofiles.Builtin()))
	}
	for _, file := range linked {
		want := protodesc.ToFileDescriptorProto(file)
		if got[want.GetName()] == nil || !proto.Equal(normal(t, got[want.GetName()]), normal(t, want)) {
			t.Errorf("%s differs from the linked code", want.GetName())
		}
	}
}

// normal returns a file as it is after it was encoded, without positions and the options
// of the file and of Go, which buf.build sets for the linked code.
func normal(t *testing.T, file *descriptorpb.FileDescriptorProto) *descriptorpb.FileDescriptorProto {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	decoded := &descriptorpb.FileDescriptorProto{}
	if err := proto.Unmarshal(data, decoded); err != nil {
		t.Fatal(err)
	}
	decoded.SourceCodeInfo, decoded.Options = nil, nil
	return decoded
}

func TestErrorsHaveFileLineAndColumn(t *testing.T) {
	t.Parallel()
	const head = `syntax = "proto3";` + "\n" + `package a.v1;` + "\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"a syntax error": {map[string]string{"a/v1/a.proto": head + "message A {\n  string x = ;\n}\n"}, []string{"a/v1/a.proto:4:14: syntax error"}},
		"two errors": {
			map[string]string{"a/v1/a.proto": head + "message A {\n  strin x = 1;\n  Other y = 2;\n}\n"},
			[]string{"a/v1/a.proto:4:3: field a.v1.A.x: unknown type strin", "a/v1/a.proto:5:3: field a.v1.A.y: unknown type Other"},
		},
		"errors of two files": {
			map[string]string{"b.proto": "x", "a.proto": "y"}, []string{"a.proto:1:1: syntax error", "b.proto:1:1: syntax error"},
		},
		"a rule that is not known": {
			map[string]string{"a.proto": head + `import "buf/validate/validate.proto";` + "\nmessage A {\n  string x = 1 [(buf.validate.field).string.min_length = 1];\n}\n"},
			[]string{"a.proto:5:45: "},
		},
		"a missing import": {map[string]string{"a.proto": head + `import "b.proto";`}, []string{`a.proto:3:8: could not resolve path "b.proto": file does not exist in `}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t, test.files)
			_, err := protofiles.Folders{Sources: []string{dir}}.Compile(t.Context())
			got, ok := errors.AsType[protofiles.Errors](err)
			if !ok || len(got) != len(test.want) {
				t.Fatalf("error = %v, want %q", err, test.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], filepath.Join(dir, filepath.FromSlash(test.want[i]))) {
					t.Errorf("error = %s, want %s", got[i], test.want[i])
				}
			}
		})
	}
}

func TestFoldersAreCompiledAndThoseOfImportsAreNot(t *testing.T) {
	t.Parallel()
	sources := folder(t, map[string]string{
		"a/a.proto":                `syntax = "proto3"; package a; import "b/b.proto"; import "onecall/v1/options.proto"; message A { b.B b = 1; }`,
		"onecall/v1/options.proto": `this copy is not read`,
		".hidden/c.proto":          `nor is this`,
	})
	imports := folder(t, map[string]string{"b/b.proto": `syntax = "proto3"; package b; message B {}`})
	var warned []string
	compiled, err := protofiles.Folders{Sources: []string{sources}, Imports: []string{imports}, Warn: func(text string) { warned = append(warned, text) }}.Compile(t.Context())
	if err != nil || len(compiled) != 1 || compiled[0].Path() != "a/a.proto" {
		t.Fatalf("Compile = %v, %v", compiled, err)
	}
	var paths []string
	for _, file := range protofiles.Ordered(compiled) {
		paths = append(paths, file.GetName())
	}
	if slices.Index(paths, "b/b.proto") < 0 || paths[len(paths)-1] != "a/a.proto" {
		t.Errorf("the order is %q", paths)
	}
	if len(warned) != 1 || !strings.HasPrefix(warned[0], filepath.Join(sources, "a", "a.proto")+`:1:51: import "onecall/v1/options.proto" not used`) {
		t.Errorf("the warnings are %q", warned)
	}
}

func TestFoldersThatCannotBeCompiledAreErrors(t *testing.T) {
	t.Parallel()
	empty, one, same := t.TempDir(), folder(t, map[string]string{"a.proto": `syntax = "proto3";`}), folder(t, map[string]string{"a.proto": `syntax = "proto3";`})
	for want, sources := range map[string][]string{
		"no .proto file in ":                {empty},
		"have the same path of imports":     {one, same},
		"no such file or directory":         {filepath.Join(empty, "none")},
		"have the same path of imports, a.": {one, one},
	} {
		if _, err := (protofiles.Folders{Sources: sources}).Compile(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", sources, err, want)
		}
	}
}
