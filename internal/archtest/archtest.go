// Package archtest has the rules of which package may import which, as data, and checks Go
// files against them.
//
// The tree of packages is the architecture. Imports point down the list in docs/design.md.
// Files are parsed and not built, so that a build tag hides none.
package archtest

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the path of the module that the rules are about.
const Module = "github.com/onecall-dev/onecall"

// The patterns that are no import path.
const (
	anything        = "..."
	standardLibrary = "std"
)

// Rule says what packages must not import. Its lists hold import paths; "./"
// in front means this module, "/..." at the end for the package and all
// below it, "std" for the standard library and "..." for everything.
type Rule struct {
	// Name is the rule in a few words.
	Name string
	// Reason is what breaks without the rule, in one sentence.
	Reason string
	// Importers are the packages that the rule is about.
	Importers []string
	// Except are those among Importers that it is not about.
	Except []string
	// Forbidden is what they must not import.
	Forbidden []string
	// Allowed are exceptions of Forbidden.
	Allowed []string
	// InTests is what their tests may import in addition.
	InTests []string
}

// kit is what tests run against: registries, etcd and an API.
var kit = []string{
	"./discovery",
	"./discovery/discoverytest",
	"./discovery/etcd",
	"./discovery/etcd/embed",
	"./discovery/memory",
	"./internal/faulty/cluster",
	"./internal/eventually",
	"./internal/fixedport",
	"./internal/grpctest",
	"./internal/testlog",
	"./internal/testproto/...",
	"go.etcd.io/etcd/api/v3/...",
	"go.etcd.io/etcd/client/v3/...",
}

// plugIns are packages below a concern that implement an interface of the concern.
var plugIns = []string{"./interceptors/atmostonce/etcdledger", "./interceptors/atmostonce/ledgertest"}

// halves are the two sides of a concern that has one at the caller and one at the
// server. What both need is in their parent.
var halves = []string{"./interceptors/atmostonce/client", "./interceptors/atmostonce/server"}

// protoargsHalves are the two directions of a conversion.
var protoargsHalves = []string{"./internal/protoargs/encode", "./internal/protoargs/decode"}

// Rules are the module's.
var Rules = []Rule{
	{
		Name:      "discovery imports the standard library alone",
		Reason:    "everything depends on it, so each of its dependencies would be everybody's",
		Importers: []string{"./discovery"},
		Forbidden: []string{anything},
		Allowed:   []string{standardLibrary, "./internal/nearest", "./internal/quote"},
		InTests:   []string{"./discovery/discoverytest", "./discovery/memory"},
	},
	{
		Name:      "discovery/... imports neither interceptors nor framework",
		Reason:    "a registry serves any gRPC program, with or without the facade",
		Importers: []string{"./discovery/..."},
		Forbidden: []string{"./interceptors/...", "./framework/..."},
	},
	{
		Name:      "discovery/resolver knows no etcd",
		Reason:    "it turns what any registry says into addresses, and the program picks the registry",
		Importers: []string{"./discovery/resolver/..."},
		Forbidden: []string{"./discovery/etcd/...", "go.etcd.io/..."},
		InTests:   kit,
	},
	{
		Name:      "interceptors/<concern> imports of this module discovery and small helpers at most",
		Reason:    "a concern that knows its siblings or the facade can't be used, tested or left out alone",
		Importers: []string{"./interceptors/..."},
		Except:    slices.Concat(plugIns, halves),
		Forbidden: []string{"./..."},
		Allowed:   []string{"./discovery", "./internal/backoff", "./internal/fieldpath", "./internal/quote"},
		InTests:   append([]string{"./interceptors/atmostonce/internal/malformed"}, kit...),
	},
	{
		Name:      "a half of a concern imports of this module its parent, discovery, backoff, inprocess and the .proto files of the wire at most",
		Reason:    "a program that only calls must not build the server's half, and what both need is a value of the wire",
		Importers: halves,
		Forbidden: []string{"./..."},
		Allowed:   []string{"./discovery", "./interceptors/atmostonce", "./internal/backoff", "./internal/contextkey", "./internal/inprocess", "./proto/onecall/v1"},
		InTests:   append([]string{"./interceptors/atmostonce/internal/malformed", "./interceptors/atmostonce/ledgertest"}, kit...),
	},
	{
		Name:      "a ledger imports of this module atmostonce, discovery and the etcd client at most",
		Reason:    "it plugs into the interceptor's interface, and a service that needs none must not build it",
		Importers: plugIns,
		Forbidden: []string{"./..."},
		Allowed:   []string{"./discovery", "./interceptors/atmostonce", "./internal/etcdclient"},
		InTests:   append([]string{"./interceptors/atmostonce/ledgertest"}, kit...),
	},
	{
		Name:      "interceptors know no etcd, but for the ledger on etcd",
		Reason:    "every program with the facade has them in its build, and who picks another registry must not build etcd's client",
		Importers: []string{"./interceptors/..."},
		Except:    []string{"./interceptors/atmostonce/etcdledger"},
		Forbidden: []string{"./internal/etcdclient", "go.etcd.io/..."},
		InTests:   kit,
	},
	{
		Name:      "the halves of framework know each other and the facade not",
		Reason:    "a change of what a caller does must not touch a service, and the options of programs are the facade's alone",
		Importers: []string{"./framework/internal/..."},
		Forbidden: []string{"./framework", "./framework/internal/client", "./framework/internal/server"},
		InTests:   kit,
	},
	{
		Name:      "framework/observe imports of this module discovery and atmostonce at most",
		Reason:    "a program imports it for its observer, and both halves of framework make the events",
		Importers: []string{"./framework/observe"},
		Forbidden: []string{"./..."},
		Allowed:   []string{"./discovery", "./interceptors/atmostonce"},
		InTests:   kit,
	},
	{
		Name:      "telemetry imports the standard library alone",
		Reason:    "services, buses and registries are sources of metrics, so each of its dependencies would be everybody's",
		Importers: []string{"./telemetry"},
		Forbidden: []string{anything},
		Allowed:   []string{standardLibrary},
	},
	{
		Name:      "framework does not import net/http/pprof",
		Reason:    "the import adds the profiles to http.DefaultServeMux, which a program may serve to others",
		Importers: []string{"./framework/..."},
		Forbidden: []string{"net/http/pprof"},
	},
	{
		Name:      "framework knows no etcd",
		Reason:    "the program's main picks the registry, and who picks another must not build etcd's client",
		Importers: []string{"./framework/..."},
		Forbidden: []string{"./discovery/etcd/...", "go.etcd.io/..."},
		InTests:   kit,
	},
	{
		Name:      "discovery/etcd/embed is imported by cmd, examples, bench and tests alone",
		Reason:    "whoever imports it has all of etcd's server in the build",
		Importers: []string{"./..."},
		Except:    []string{"./cmd/...", "./examples/...", "./bench/...", "./internal/faulty/cluster"},
		Forbidden: []string{"./discovery/etcd/embed/..."},
		InTests:   kit,
	},
	{
		Name:      "the test kit is imported by tests alone",
		Reason:    "it is for tests, and a program must not have it in its build",
		Importers: []string{"./..."},
		Forbidden: []string{"./framework/frameworktest/...", "./framework/schematest/..."},
		InTests:   []string{"./framework/frameworktest", "./framework/schematest"},
	},
	{
		Name:      "internal/faulty/cluster is imported by tests alone",
		Reason:    "it is members of etcd, and faults between them and who calls them",
		Importers: []string{"./..."},
		Forbidden: []string{"./internal/faulty/cluster/..."},
		InTests:   []string{"./internal/faulty/cluster"},
	},
	{
		Name:      "etcd's server is imported by discovery/etcd/embed alone",
		Reason:    "one package holds that heavy dependency, so that one rule keeps it out of users' builds",
		Importers: []string{"./..."},
		Except:    []string{"./discovery/etcd/embed/..."},
		Forbidden: []string{"go.etcd.io/etcd/server/..."},
	},
	{
		Name:      "proto imports nothing else of this module",
		Reason:    "users' generated code imports it and must not pull in the framework",
		Importers: []string{"./proto/..."},
		Forbidden: []string{"./..."},
		Allowed:   []string{"./proto/..."},
	},
	{
		Name:      "internal imports of this module internal and proto alone",
		Reason:    "all parts stand on it, so anything else would turn the imports into a circle",
		Importers: []string{"./internal/..."},
		Except:    []string{"./internal/faulty/cluster", "./internal/instanceset"},
		Forbidden: []string{"./..."},
		Allowed:   []string{"./internal/...", "./proto/..."},
		InTests:   kit,
	},
	{
		Name:      "the halves of protoargs do not import each other",
		Reason:    "a reader of one direction must not need the other, and what both need is in their parent",
		Importers: protoargsHalves,
		Forbidden: protoargsHalves,
		InTests:   append([]string{"./internal/protoargs/protoargstest"}, protoargsHalves...),
	},
	{
		Name:      "examples/auth/accounts imports neither gRPC nor anything of this module",
		Reason:    "it shows that a service's logic knows nothing of how it is called",
		Importers: []string{"./examples/auth/accounts/..."},
		Forbidden: []string{"./...", "google.golang.org/grpc/..."},
	},
	{
		Name:      "examples are imported by examples and tests alone",
		Reason:    "a reader must be free to copy and change an example, and so must we",
		Importers: []string{"./..."},
		Except:    []string{"./examples/..."},
		Forbidden: []string{"./examples/..."},
		InTests:   []string{"./examples/..."},
	},
	{
		Name:      "cmd is imported by no other package",
		Reason:    "a program is an end of the imports: what others need of it belongs in a package of its own",
		Importers: []string{"./..."},
		Except:    []string{"./cmd/..."},
		Forbidden: []string{"./cmd/..."},
	},
	{
		Name:      "bench is imported by no other package",
		Reason:    "it is a module of its own, whose dependencies on other frameworks must stay there",
		Importers: []string{"./..."},
		Except:    []string{"./bench/..."},
		Forbidden: []string{"./bench/..."},
	},
}

// File is what a check needs of a Go file.
type File struct {
	// Path is the file's, from the module's root, with slashes.
	Path string
	// Package is the import path of the file's folder.
	Package string
	// Imports are the import paths in the file.
	Imports []string
}

// Test reports whether the file is part of tests alone.
func (f File) Test() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Violation is an import that breaks a rule.
type Violation struct {
	// File is the path of the file.
	File string
	// Import is the path that it imports.
	Import string
	// Rule is the one that is broken.
	Rule Rule
}

// String returns the file, the import, the rule and its reason.
func (v Violation) String() string {
	return fmt.Sprintf("%s imports %q: %s, because %s", v.File, v.Import, v.Rule.Name, v.Rule.Reason)
}

// Check finds the imports of files that break rules. The order is that of the
// files, their imports and the rules.
func Check(files []File, rules []Rule) []Violation {
	var found []Violation
	for _, file := range files {
		for _, imported := range file.Imports {
			for _, rule := range rules {
				if rule.forbids(file, imported) {
					found = append(found, Violation{File: file.Path, Import: imported, Rule: rule})
				}
			}
		}
	}
	return found
}

// Root finds the module's root: the first folder with a go.mod from dir
// upwards.
func Root(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no go.mod in %s or above it", dir)
		}
	}
}

// Files reads the imports of all Go files of the module at root, tests
// included, whatever their build tags. Like the go command it passes over
// testdata, nested modules and folders whose names begin with a dot or an
// underscore.
func Files(root string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name == root {
				return nil
			}
			return skipFolder(name)
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		file, err := readFile(root, name)
		files = append(files, file)
		return err
	})
	return files, err
}

// skipFolder returns fs.SkipDir for a folder that is no part of the module.
func skipFolder(name string) error {
	base := filepath.Base(name)
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	switch {
	case err == nil:
		return fs.SkipDir
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

func readFile(root, name string) (File, error) {
	relative, err := filepath.Rel(root, name)
	if err != nil {
		return File{}, err
	}
	file := File{Path: filepath.ToSlash(relative)}
	file.Package = path.Join(Module, path.Dir(file.Path))
	parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		return File{}, err
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return File{}, fmt.Errorf("%s: %w", file.Path, err)
		}
		file.Imports = append(file.Imports, imported)
	}
	return file, nil
}

// forbids reports whether the rule forbids an import of a file. A package's own
// tests may always import it.
func (r Rule) forbids(file File, imported string) bool {
	switch {
	case !matchAny(r.Importers, file.Package) || matchAny(r.Except, file.Package):
		return false
	case !matchAny(r.Forbidden, imported) || matchAny(r.Allowed, imported):
		return false
	case file.Test() && (imported == file.Package || matchAny(r.InTests, imported)):
		return false
	default:
		return true
	}
}

func matchAny(patterns []string, importPath string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return match(pattern, importPath) })
}

// match reports whether an import path is one of a pattern's: see [Rule].
func match(pattern, importPath string) bool {
	switch pattern {
	case anything:
		return true
	case standardLibrary:
		first, _, _ := strings.Cut(importPath, "/")
		return !strings.Contains(first, ".")
	}
	if inside, ok := strings.CutPrefix(pattern, "./"); ok {
		pattern = Module + "/" + inside
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return under(tree, importPath)
	}
	return importPath == pattern
}

// under reports whether an import path is that of tree or of a package below it.
func under(tree, importPath string) bool {
	return importPath == tree || strings.HasPrefix(importPath, tree+"/")
}
