package archtest_test

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/internal/archtest"
)

// root returns the folder of this module.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root, err := archtest.Root(dir)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestEveryFileKeepsTheRules(t *testing.T) {
	t.Parallel()
	files, err := archtest.Files(root(t))
	if err != nil {
		t.Fatal(err)
	}
	// The walk must have come by the parts that the rules are about.
	for _, part := range []string{"discovery/registry.go", "framework/bus.go", "discovery/etcd/registry.go", "internal/archtest/archtest_test.go"} {
		if !slices.ContainsFunc(files, func(f archtest.File) bool { return f.Path == part }) {
			t.Errorf("the walk did not find %s", part)
		}
	}
	for _, violation := range archtest.Check(files, archtest.Rules) {
		t.Error(violation)
	}
}

func TestEveryRuleFindsAPlantedImport(t *testing.T) {
	t.Parallel()
	const module = archtest.Module + "/"
	tests := []struct {
		rule   string   // the one that is broken
		file   string   // a file that breaks it, or keeps it
		breaks []string // imports that break the rule
		keeps  []string // imports that keep it
	}{
		{
			"discovery imports the standard library alone", "discovery/planted.go",
			[]string{"google.golang.org/grpc", module + "discovery/memory", module + "internal/backoff", "golang.org/x/sync/errgroup"},
			[]string{"context", "encoding/json"},
		},
		{
			"discovery imports the standard library alone", "discovery/planted_test.go",
			[]string{module + "discovery/etcd", "google.golang.org/grpc"},
			[]string{module + "discovery", module + "discovery/memory", "testing"},
		},
		{
			"discovery/... imports neither interceptors nor framework", "discovery/etcd/planted.go",
			[]string{module + "framework", module + "interceptors/timeout"},
			[]string{module + "discovery", module + "internal/backoff", "go.etcd.io/etcd/client/v3"},
		},
		{
			"discovery/... imports neither interceptors nor framework", "discovery/etcd/planted_test.go",
			[]string{module + "framework"},
			[]string{module + "discovery/etcd/embed"},
		},
		{
			"discovery/resolver knows no etcd", "discovery/resolver/planted.go",
			[]string{module + "discovery/etcd", module + "discovery/etcd/embed", "go.etcd.io/etcd/client/v3", "go.etcd.io/bbolt"},
			[]string{module + "discovery", "google.golang.org/grpc/resolver"},
		},
		{
			"discovery/resolver knows no etcd", "discovery/resolver/planted_test.go",
			[]string{"go.etcd.io/bbolt"},
			[]string{module + "discovery/etcd", module + "discovery/etcd/embed", module + "discovery/resolver"},
		},
		{
			"interceptors/<concern> imports of this module discovery and small helpers at most", "interceptors/timeout/planted.go",
			[]string{module + "interceptors/recovery", module + "framework", module + "internal/contract", module + "discovery/memory", archtest.Module},
			[]string{module + "discovery", "google.golang.org/grpc", "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"},
		},
		{
			"interceptors/<concern> imports of this module discovery and small helpers at most", "interceptors/timeout/planted_test.go",
			[]string{module + "interceptors/recovery", module + "framework"},
			[]string{module + "interceptors/timeout", module + "discovery/memory", module + "internal/testproto/onecall/test/v1"},
		},
		{
			"interceptors/<concern> imports of this module discovery and small helpers at most", "interceptors/atmostonce/planted.go",
			[]string{module + "interceptors/atmostonce/etcdledger", module + "interceptors/atmostonce/client", module + "internal/etcdclient"},
			[]string{module + "discovery"},
		},
		{
			"interceptors/<concern> imports of this module discovery and small helpers at most", "interceptors/atmostonce/planted_test.go",
			[]string{module + "interceptors/atmostonce/etcdledger", module + "interceptors/atmostonce/ledgertest"},
			[]string{module + "interceptors/atmostonce", module + "interceptors/atmostonce/internal/malformed"},
		},
		{
			"a half of a concern imports of this module its parent, discovery, backoff, inprocess and the .proto files of the wire at most", "interceptors/atmostonce/client/planted.go",
			[]string{module + "interceptors/atmostonce/server", module + "interceptors/atmostonce/ledgertest", module + "framework"},
			[]string{module + "discovery", module + "interceptors/atmostonce", module + "internal/backoff", "google.golang.org/grpc"},
		},
		{
			"a half of a concern imports of this module its parent, discovery, backoff, inprocess and the .proto files of the wire at most", "interceptors/atmostonce/server/planted.go",
			[]string{module + "interceptors/atmostonce/client", module + "interceptors/atmostonce/etcdledger", module + "internal/contract"},
			[]string{module + "discovery", module + "interceptors/atmostonce"},
		},
		{
			"a half of a concern imports of this module its parent, discovery, backoff, inprocess and the .proto files of the wire at most", "interceptors/atmostonce/server/planted_test.go",
			[]string{module + "interceptors/atmostonce/client"},
			[]string{module + "interceptors/atmostonce/server", module + "interceptors/atmostonce/ledgertest", module + "interceptors/atmostonce/internal/malformed"},
		},
		{
			"the halves of protoargs do not import each other", "internal/protoargs/decode/planted.go",
			[]string{module + "internal/protoargs/encode"},
			[]string{module + "internal/protoargs", module + "internal/quote"},
		},
		{
			"a ledger imports of this module atmostonce, discovery and the etcd client at most", "interceptors/atmostonce/etcdledger/planted.go",
			[]string{module + "discovery/etcd", module + "framework", module + "interceptors/timeout", module + "interceptors/atmostonce/ledgertest", module + "internal/contract"},
			[]string{module + "discovery", module + "interceptors/atmostonce", module + "internal/etcdclient", "go.etcd.io/etcd/client/v3"},
		},
		{
			"a ledger imports of this module atmostonce, discovery and the etcd client at most", "interceptors/atmostonce/etcdledger/planted_test.go",
			[]string{module + "framework"},
			[]string{module + "interceptors/atmostonce/etcdledger", module + "interceptors/atmostonce/ledgertest", module + "discovery/etcd/embed"},
		},
		{
			"interceptors know no etcd, but for the ledger on etcd", "interceptors/atmostonce/planted.go",
			[]string{"go.etcd.io/etcd/client/v3", module + "internal/etcdclient"},
			[]string{module + "discovery", "google.golang.org/grpc"},
		},
		{
			"interceptors know no etcd, but for the ledger on etcd", "interceptors/atmostonce/ledgertest/planted.go",
			[]string{"go.etcd.io/etcd/client/v3", module + "internal/etcdclient"},
			[]string{module + "interceptors/atmostonce"},
		},
		{
			"interceptors know no etcd, but for the ledger on etcd", "interceptors/atmostonce/etcdledger/planted.go",
			nil,
			[]string{"go.etcd.io/etcd/client/v3", module + "internal/etcdclient"},
		},
		{
			"the halves of framework know each other and the facade not", "framework/internal/client/planted.go",
			[]string{module + "framework", module + "framework/internal/server"},
			[]string{module + "framework/internal/schemas", module + "framework/observe", module + "interceptors/timeout"},
		},
		{
			"the halves of framework know each other and the facade not", "framework/internal/schemas/planted.go",
			[]string{module + "framework/internal/client"},
			[]string{module + "framework/internal/callerr"},
		},
		{
			"framework/observe imports of this module discovery and atmostonce at most", "framework/observe/planted.go",
			[]string{module + "framework/internal/callerr", module + "interceptors/timeout"},
			[]string{module + "discovery", module + "interceptors/atmostonce", "google.golang.org/grpc/codes"},
		},
		{
			"telemetry imports the standard library alone", "telemetry/planted.go",
			[]string{module + "discovery", module + "framework/observe", "google.golang.org/grpc/codes"},
			[]string{"sync", "net/http"},
		},
		{
			"framework does not import net/http/pprof", "framework/internal/admin/planted.go",
			[]string{"net/http/pprof"},
			[]string{"net/http", "runtime/pprof"},
		},
		{
			"framework knows no etcd", "framework/planted.go",
			[]string{module + "discovery/etcd", module + "discovery/etcd/embed", "go.etcd.io/etcd/client/v3", "go.etcd.io/etcd/server/v3/embed"},
			[]string{module + "discovery", module + "interceptors/timeout", "google.golang.org/grpc"},
		},
		{
			"framework knows no etcd", "framework/frameworktest/planted.go",
			[]string{module + "discovery/etcd"},
			[]string{module + "framework", module + "discovery/memory"},
		},
		{
			"framework knows no etcd", "framework/planted_test.go",
			[]string{"go.etcd.io/bbolt"},
			[]string{module + "framework", module + "discovery/etcd", module + "discovery/etcd/embed", "go.etcd.io/etcd/client/v3/naming/resolver"},
		},
		{
			"discovery/etcd/embed is imported by cmd, examples, bench and tests alone", "discovery/etcd/planted.go",
			[]string{module + "discovery/etcd/embed"},
			[]string{module + "discovery", "go.etcd.io/etcd/client/v3"},
		},
		{
			"discovery/etcd/embed is imported by cmd, examples, bench and tests alone", "discovery/etcd/planted_test.go",
			nil,
			[]string{module + "discovery/etcd/embed"},
		},
		{
			"discovery/etcd/embed is imported by cmd, examples, bench and tests alone", "cmd/onecall/planted.go",
			nil,
			[]string{module + "discovery/etcd/embed"},
		},
		{
			"discovery/etcd/embed is imported by cmd, examples, bench and tests alone", "examples/auth/demo/planted.go",
			nil,
			[]string{module + "discovery/etcd/embed"},
		},
		{
			"the test kit is imported by tests alone", "framework/planted.go",
			[]string{module + "framework/frameworktest"},
			[]string{module + "framework/observe"},
		},
		{
			"the test kit is imported by tests alone", "examples/auth/planted_test.go",
			nil,
			[]string{module + "framework/frameworktest"},
		},
		{
			"internal/faulty/cluster is imported by tests alone", "cmd/onecall/planted.go",
			[]string{module + "internal/faulty/cluster"},
			[]string{module + "discovery/etcd/embed"},
		},
		{
			"internal/faulty/cluster is imported by tests alone", "framework/planted_test.go",
			nil,
			[]string{module + "internal/faulty/cluster"},
		},
		{
			"etcd's server is imported by discovery/etcd/embed alone", "cmd/onecall/planted.go",
			[]string{"go.etcd.io/etcd/server/v3/embed"},
			[]string{"go.etcd.io/etcd/client/v3"},
		},
		{
			"etcd's server is imported by discovery/etcd/embed alone", "discovery/etcd/planted_test.go",
			[]string{"go.etcd.io/etcd/server/v3/embed"},
			nil,
		},
		{
			"etcd's server is imported by discovery/etcd/embed alone", "discovery/etcd/embed/planted.go",
			nil,
			[]string{"go.etcd.io/etcd/server/v3/embed"},
		},
		{
			"proto imports nothing else of this module", "proto/onecall/v1/planted.go",
			[]string{module + "discovery", module + "internal/contract", module + "framework"},
			[]string{module + "proto/other/v1", "google.golang.org/protobuf/proto"},
		},
		{
			"proto imports nothing else of this module", "proto/onecall/v1/planted_test.go",
			[]string{module + "discovery"},
			[]string{module + "proto/onecall/v1"},
		},
		{
			"internal imports of this module internal and proto alone", "internal/contract/planted.go",
			[]string{module + "discovery", module + "framework", module + "interceptors/timeout"},
			[]string{module + "internal/backoff", module + "proto/onecall/v1", "google.golang.org/grpc"},
		},
		{
			"internal imports of this module internal and proto alone", "internal/contract/planted_test.go",
			[]string{module + "framework"},
			[]string{module + "discovery/memory", module + "internal/contract"},
		},
		{
			"examples/auth/accounts imports neither gRPC nor anything of this module", "examples/auth/accounts/planted.go",
			[]string{"google.golang.org/grpc", "google.golang.org/grpc/status", module + "framework", module + "discovery", module + "examples/auth/proto/auth/v1"},
			[]string{"context", "golang.org/x/crypto/bcrypt", "google.golang.org/grpclike", archtest.Module + "like/framework"},
		},
		{
			"examples/auth/accounts imports neither gRPC nor anything of this module", "examples/auth/accounts/planted_test.go",
			[]string{"google.golang.org/grpc/codes", module + "framework"},
			[]string{module + "examples/auth/accounts"},
		},
		{
			"examples are imported by examples and tests alone", "framework/planted.go",
			[]string{module + "examples/auth/proto/auth/v1"},
			[]string{module + "discovery"},
		},
		{
			"examples are imported by examples and tests alone", "cmd/onecall/planted_test.go",
			nil,
			[]string{module + "examples/other"},
		},
		{
			"examples are imported by examples and tests alone", "examples/auth/demo/planted.go",
			nil,
			[]string{module + "examples/auth"},
		},
		{
			"cmd is imported by no other package", "examples/auth/demo/planted.go",
			[]string{module + "cmd/onecall"},
			nil,
		},
		{
			"cmd is imported by no other package", "framework/planted_test.go",
			[]string{module + "cmd/onecall/internal/call"},
			nil,
		},
		{
			"cmd is imported by no other package", "cmd/onecall/planted.go",
			nil,
			[]string{module + "cmd/onecall/internal/call"},
		},
		{
			"bench is imported by no other package", "cmd/onecall/planted.go",
			[]string{module + "bench"},
			nil,
		},
		{
			"bench is imported by no other package", "internal/contract/planted_test.go",
			[]string{module + "bench/load"},
			nil,
		},
	}
	planted := make(map[string]bool)
	for _, test := range tests {
		at := slices.IndexFunc(archtest.Rules, func(r archtest.Rule) bool { return r.Name == test.rule })
		if at < 0 {
			t.Fatalf("there is no rule %q", test.rule)
		}
		rule := archtest.Rules[at]
		planted[rule.Name] = planted[rule.Name] || len(test.breaks) > 0
		t.Run(rule.Name+": "+test.file, func(t *testing.T) {
			t.Parallel()
			check := func(imported string) []archtest.Violation {
				file := archtest.File{Path: test.file, Package: module + path.Dir(test.file), Imports: []string{imported}}
				return archtest.Check([]archtest.File{file}, []archtest.Rule{rule})
			}
			for _, imported := range test.breaks {
				violations := check(imported)
				if len(violations) != 1 {
					t.Errorf("%s importing %q gives %d violations, want one", test.file, imported, len(violations))
					continue
				}
				for _, part := range []string{test.file, imported, rule.Name, rule.Reason} {
					if !strings.Contains(violations[0].String(), part) {
						t.Errorf("%q does not tell %q", violations[0], part)
					}
				}
			}
			for _, imported := range test.keeps {
				for _, violation := range check(imported) {
					t.Errorf("%q is no violation", violation)
				}
			}
		})
	}
	for _, rule := range archtest.Rules {
		if !planted[rule.Name] {
			t.Errorf("no planted import shows that the rule %q can be broken", rule.Name)
		}
		if rule.Reason == "" {
			t.Errorf("the rule %q has no reason", rule.Name)
		}
	}
}

func TestFilesReadsTheModuleAndNothingElse(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":                     "module " + archtest.Module,
		"framework/bus.go":           "package framework\n\nimport (\n\t\"context\"\n\t. \"a.example/dot\"\n\t_ \"b.example/blank\"\n\tother \"c.example/named\"\n)\n",
		"framework/tagged.go":        "//go:build never\n\npackage framework\n\nimport `d.example/raw`\n",
		"framework/bus_test.go":      "package framework_test\n\nimport \"testing\"\n",
		"framework/testdata/bad.go":  "no Go at all",
		"framework/notes.txt":        "import",
		".build/mod/x.go":            "package x\n",
		"_old/x.go":                  "package x\n",
		"bench/go.mod":               "module " + archtest.Module + "/bench",
		"bench/deeper/main.go":       "package main\n",
		"examples/auth/tools/go.mod": "module x",
		"examples/auth/tools/x.go":   "package x\n",
	} {
		name = filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := archtest.Root(filepath.Join(root, "framework"))
	if err != nil || found != root {
		t.Fatalf("Root = %q, %v; want %q", found, err, root)
	}
	files, err := archtest.Files(found)
	if err != nil {
		t.Fatal(err)
	}
	want := []archtest.File{
		{Path: "framework/bus.go", Package: archtest.Module + "/framework", Imports: []string{"context", "a.example/dot", "b.example/blank", "c.example/named"}},
		{Path: "framework/bus_test.go", Package: archtest.Module + "/framework", Imports: []string{"testing"}},
		{Path: "framework/tagged.go", Package: archtest.Module + "/framework", Imports: []string{"d.example/raw"}},
	}
	same := func(a, b archtest.File) bool {
		return a.Path == b.Path && a.Package == b.Package && slices.Equal(a.Imports, b.Imports)
	}
	if !slices.EqualFunc(files, want, same) {
		t.Errorf("Files = %+v\nwant %+v", files, want)
	}
}
