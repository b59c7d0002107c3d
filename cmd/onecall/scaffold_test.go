package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/cmd/onecall/internal/generator"
	"github.com/onecall-dev/onecall/cmd/onecall/internal/scaffold"
	"github.com/onecall-dev/onecall/internal/eventually"
)

// runIn runs the command in a folder.
func runIn(t *testing.T, dir string, args ...string) result {
	t.Helper()
	command := exec.CommandContext(eventually.Context(t), binary, args...)
	command.Dir, command.Env = dir, environment("GOWORK=off")
	return finish(t, command, "")
}

// mustRun runs another command in a folder, and returns its standard output.
func mustRun(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(eventually.Context(t), name, args...)
	command.Dir, command.Env = dir, environment("GOWORK=off")
	got := finish(t, command, "")
	if got.code != 0 {
		t.Fatalf("%s %v in %s: %+v", name, args, dir, got)
	}
	return got.out
}

// newProject makes a project that uses this checkout, and returns its folder.
func newProject(t *testing.T, name string, args ...string) string {
	t.Helper()
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	got := runIn(t, dir, append([]string{"new", name, "--onecall", checkout, "-o", "plain"}, args...)...)
	if got.code != 0 || !strings.Contains(got.out, name+"/go.mod\twritten\n") || !strings.HasSuffix(got.errs, "cd "+name+" && make demo && make test. make prints the other targets.\n") {
		t.Fatalf("onecall new: %+v", got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("onecall new left %v (%v)", left, err)
	}
	return filepath.Join(dir, name)
}

// TestANewProjectIsFormattedVettedAndPassesItsTests uses a name and a module that differ.
func TestANewProjectIsFormattedVettedAndPassesItsTests(t *testing.T) {
	t.Parallel()
	project := newProject(t, "my_shop", "--module", "github.com/acme/orders")
	mustRun(t, project, "go", "vet", "./...")
	if out := mustRun(t, project, "go", "test", "./..."); strings.Count(out, "ok  \t") != 2 {
		t.Errorf("go test printed\n%s", out)
	}
	if unformatted := mustRun(t, project, "gofmt", "-l", "."); unformatted != "" {
		t.Errorf("gofmt would change\n%s", unformatted)
	}
	mustRun(t, project, "go", "mod", "tidy", "-diff")
	if mod := mustRun(t, project, "go", "mod", "edit", "-print"); strings.Contains(mod, "go.etcd.io/etcd/server") || strings.Contains(mod, "github.com/spf13/cobra") {
		t.Errorf("the project requires what only the command needs:\n%s", mod)
	}
}

// TestGenerateWritesWhatTheProtoFilesSay changes a project.
func TestGenerateWritesWhatTheProtoFilesSay(t *testing.T) {
	t.Parallel()
	project := newProject(t, "shop")
	const unchanged = "proto/shop/v1/shop.pb.go\tunchanged\nproto/shop/v1/shop_grpc.pb.go\tunchanged\nproto/shop/v1/shop_onecall.pb.go\tunchanged\n"
	if got := runIn(t, project, "generate", "-o", "plain"); got != (result{out: unchanged}) {
		t.Fatalf("once more: %+v", got)
	}
	source := filepath.Join(project, "proto", "shop", "v1", "shop.proto")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	write(source, strings.Replace(string(text), "string item = 2", "strng item = 2", 1))
	if got := runIn(t, project, "generate"); got.code != 1 || got.out != "" ||
		got.errs != "proto/shop/v1/shop.proto:41:3: field shop.v1.PlaceOrderRequest.item: unknown type strng\nonecall: the .proto files have 1 error\n" {
		t.Errorf("an error: %+v", got)
	}
	write(source, strings.Replace(string(text), `option go_package = "example.com/shop/`, `option go_package = "example.com/other/`, 1))
	if got := runIn(t, project, "generate"); got.code != 1 || got.out != "" || !strings.Contains(got.errs, "protoc-gen-go: ") || !strings.Contains(got.errs, "example.com/shop") {
		t.Errorf("a package outside of the module: %+v", got)
	}

	write(source, strings.Replace(string(text), "string item = 2", "string goods = 2", 1))
	if got := runIn(t, project, "generate", "-o", "plain"); got.code != 0 || !strings.HasPrefix(got.out, "proto/shop/v1/shop.pb.go\twritten\nproto/shop/v1/shop_grpc.pb.go\tunchanged\n") {
		t.Errorf("a renamed field: %+v", got)
	}
	if code, err := os.ReadFile(filepath.Join(project, "proto", "shop", "v1", "shop.pb.go")); err != nil || !strings.Contains(string(code), "GetGoods()") {
		t.Errorf("the renamed field is not in the generated code (%v)", err)
	}

	more := filepath.Join(project, "proto", "shop", "v1", "more.proto")
	write(more, "// About the file.\n\nsyntax = \"proto3\";\n\npackage shop.v1;\n\noption go_package = \"example.com/shop/proto/shop/v1;shopv1\";\n\n// More is more.\nmessage More {}\n")
	if got := runIn(t, project, "generate", "-o", "plain"); got.code != 0 || !strings.HasPrefix(got.out, "proto/shop/v1/more.pb.go\twritten\nproto/shop/v1/more_onecall.pb.go\twritten\n") {
		t.Errorf("another file: %+v", got)
	}
	if err := os.Remove(more); err != nil {
		t.Fatal(err)
	}
	if got := runIn(t, project, "generate", "-o", "plain"); got.code != 1 || got.out != unchanged ||
		!strings.HasSuffix(got.errs, "any more; remove them: proto/shop/v1/more.pb.go proto/shop/v1/more_onecall.pb.go\n") {
		t.Errorf("after the file was removed: %+v", got)
	}

	write(source, string(text))
	mod := filepath.Join(project, "go.mod")
	text, err = os.ReadFile(mod)
	if err != nil {
		t.Fatal(err)
	}
	write(mod, strings.Replace(string(text), "\tgithub.com/onecall-dev/onecall/cmd/protoc-gen-onecall\n", "", 1))
	if got := runIn(t, project, "generate"); got.code != 1 || !strings.HasSuffix(got.errs, "run go get -tool github.com/onecall-dev/onecall/cmd/protoc-gen-onecall\n") {
		t.Errorf("without a plugin: %+v", got)
	}
	if err := os.Remove(mod); err != nil {
		t.Fatal(err)
	}
	if got := runIn(t, project, "generate"); got.code != 1 || !strings.HasPrefix(got.errs, "onecall: no go.mod in this folder or one above") {
		t.Errorf("without a module: %+v", got)
	}
}

// TestGenerateWritesWhatBufWrites compares it with the committed code of the example, which
// buf generated.
func TestGenerateWritesWhatBufWrites(t *testing.T) {
	t.Parallel()
	project := newProject(t, "shop")
	mustRun(t, project, "go", "mod", "edit", "-module", "github.com/onecall-dev/onecall/examples/auth")
	if err := os.RemoveAll(filepath.Join(project, "proto")); err != nil {
		t.Fatal(err)
	}
	committed := filepath.Join("..", "..", "examples", "auth", "proto", "auth", "v1")
	generated := filepath.Join(project, "proto", "auth", "v1")
	text, err := os.ReadFile(filepath.Join(committed, "auth.proto"))
	if err == nil {
		err = os.MkdirAll(generated, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(generated, "auth.proto"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := runIn(t, project, "generate"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, name := range []string{"auth.pb.go", "auth_grpc.pb.go", "auth_onecall.pb.go"} {
		want, err := os.ReadFile(filepath.Join(committed, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(generated, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what buf generated (%v)", name, err)
		}
	}
}

// TestNewRefusesWithoutLeavingAnything runs it with names, in folders and in an environment
// with which it cannot make a project.
func TestNewRefusesWithoutLeavingAnything(t *testing.T) {
	t.Parallel()
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]result{
		"new":                             {errs: "onecall: accepts 1 arg(s), received 0\n", code: 2},
		"new My-Shop":                     {errs: `onecall: "My-Shop" cannot be the name of an API: use lower-case letters, digits and underscores, such as my_shop` + "\n", code: 2},
		"new ../shop":                     {errs: `onecall: "../shop" cannot be the name of an API: use lower-case letters, digits and underscores, such as shop` + "\n", code: 2},
		"new default":                     {errs: `onecall: "default" is reserved: choose another name` + "\n", code: 2},
		"new onecall":                     {errs: `onecall: "onecall" is reserved: choose another name` + "\n", code: 2},
		"new con --module a.b/c":          {errs: `onecall: "con" cannot be the name of a folder: choose another name` + "\n", code: 2},
		"new shop --module a//b":          {errs: `onecall: --module: malformed import path "a//b": double slash` + "\n", code: 2},
		"new shop":                        {errs: "onecall: this command was built from a folder and has no version: name a folder with the source of Onecall, with --onecall\n", code: 2},
		"new shop --onecall .":            {errs: "onecall: --onecall .: this is no folder with the source of Onecall\n", code: 2},
		"new there --onecall " + checkout: {errs: "onecall: there exists already: choose another name, or remove it\n", code: 1},
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "there"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got := runIn(t, dir, strings.Fields(args)...); got != want {
			t.Errorf("%s: %+v, want %+v", args, got, want)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("%s left %v (%v)", args, left, err)
		}
	}

	dir := t.TempDir()
	command := exec.CommandContext(eventually.Context(t), binary, "new", "shop", "--onecall", checkout)
	command.Dir, command.Env = dir, environment("PATH="+dir)
	if got := finish(t, command, ""); got.code != 1 || !strings.HasSuffix(got.errs, "\nonecall: the go command is not in PATH: install Go from https://go.dev/dl\n") {
		t.Errorf("without Go: %+v", got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("without Go it left %v (%v)", left, err)
	}
}

// TestNewLeavesNothingWhenItIsInterruptedOrCannotResolve interrupts it while it works, and
// then runs it without a module proxy and with an empty cache.
func TestNewLeavesNothingWhenItIsInterruptedOrCannotResolve(t *testing.T) {
	t.Parallel()
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	empty := func(dir string) {
		t.Helper()
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("new left %v (%v)", left, err)
		}
	}
	dir := t.TempDir()
	command := exec.CommandContext(eventually.Context(t), binary, "new", "shop", "--onecall", checkout)
	command.Dir, command.Env = dir, environment("GOWORK=off")
	errs, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	printed := lines(errs)
	eventually.Receive(t, "the first line", printed)
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	last := ""
	for line := range printed {
		last = line
	}
	if _ = command.Wait(); last != "onecall: interrupted: no project was made" || command.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %d and %q", command.ProcessState.ExitCode(), last)
	}
	empty(dir)

	command = exec.CommandContext(eventually.Context(t), binary, "new", "shop", "--onecall", checkout)
	command.Dir, command.Env = dir, environment("GOWORK=off", "GOPROXY=off", "GOMODCACHE="+t.TempDir())
	if got := finish(t, command, ""); got.code != 1 || got.out != "" || !strings.Contains(got.errs, "module lookup disabled by GOPROXY=off") ||
		!strings.HasSuffix(got.errs, "onecall: go list -mod=mod -deps tool has failed, for the reason above (exit status 1)\n") {
		t.Errorf("without a proxy: %+v", got)
	}
	empty(dir)
}

// TestAProjectHasTheVersionsOfThisModule compares what the templates fix with go.mod.
func TestAProjectHasTheVersionsOfThisModule(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Split(string(text), "\n"), "go "+scaffold.GoVersion) {
		t.Errorf("a project has Go %s, and the module another", scaffold.GoVersion)
	}
	text, err = os.ReadFile("../../tools/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), generator.GRPCPlugin+" "+generator.GRPCVersion+" ") {
		t.Errorf("a project has protoc-gen-go-grpc %s, and the module of the tools another", generator.GRPCVersion)
	}
}

// TestAProjectHasTheModulesOfTheCommandInTheSameVersions compares the two go.mod. Packages of
// another version are compiled again in a project, which takes a minute.
func TestAProjectHasTheModulesOfTheCommandInTheSameVersions(t *testing.T) {
	t.Parallel()
	versions := func(dir string) map[string]string {
		t.Helper()
		var content struct {
			Require []struct {
				Path    string `json:"Path"`    //nolint:tagliatelle // as the go command writes it
				Version string `json:"Version"` //nolint:tagliatelle // the same
			} `json:"Require"` //nolint:tagliatelle // the same
		}
		if err := json.Unmarshal([]byte(mustRun(t, dir, "go", "mod", "edit", "-json")), &content); err != nil {
			t.Fatal(err)
		}
		found := make(map[string]string)
		for _, required := range content.Require {
			found[required.Path] = required.Version
		}
		return found
	}
	framework := versions(filepath.Join("..", ".."))
	for path, version := range versions(".") {
		if other, ok := framework[path]; ok && other != version {
			t.Errorf("the command has %s %s, and the framework %s", path, version, other)
		}
	}
}

// TestProtosWritesFilesAndReplacesNone writes the built-in files three times.
func TestProtosWritesFilesAndReplacesNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const both = "lib/buf/validate/validate.proto\tSTATE\nlib/onecall/v1/options.proto\tSTATE\n"
	for _, state := range []string{"written", "unchanged"} {
		if got := runIn(t, dir, "protos", "lib", "-o", "plain"); got != (result{out: strings.ReplaceAll(both, "STATE", state)}) {
			t.Errorf("%s: %+v", state, got)
		}
	}
	changed := filepath.Join(dir, "lib", "onecall", "v1", "options.proto")
	if err := os.WriteFile(changed, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "lib", "buf", "validate", "validate.proto")); err != nil {
		t.Fatal(err)
	}
	if got := runIn(t, dir, "protos", "lib"); got.code != 1 || got.out != "" || got.errs != "onecall: lib/onecall/v1/options.proto: another content than that of this version: keep it, or replace it with --force\n" {
		t.Errorf("a changed file: %+v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "lib", "buf", "validate", "validate.proto")); !os.IsNotExist(err) {
		t.Errorf("a file was written beside one that was refused (%v)", err)
	}
	if got := runIn(t, dir, "protos", "lib", "--force", "-o", "plain"); got != (result{out: strings.ReplaceAll(both, "STATE", "written")}) {
		t.Errorf("with --force: %+v", got)
	}
	want, err := os.ReadFile("../../proto/onecall/v1/options.proto")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(changed); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file is not that of the module (%v)", err)
	}
}

// TestDevRunsACommandWithItsEtcd runs this command within dev, and one that fails.
func TestDevRunsACommandWithItsEtcd(t *testing.T) {
	t.Parallel()
	if got := runIn(t, t.TempDir(), "dev", "--listen", "127.0.0.1:0", "--", binary, "apis", "-o", "json"); got.code != 0 || got.out != "[]\n" {
		t.Errorf("apis: %+v", got)
	}
	if got := runIn(t, t.TempDir(), "dev", "--listen", "127.0.0.1:0", "--", binary, "ping", "none"); got.code != 1 || !strings.HasSuffix(got.errs, "\nonecall: "+binary+": exit status 1\n") {
		t.Errorf("ping: %+v", got)
	}
	ended := filepath.Join(t.TempDir(), "ended")
	within := start(t, nil, "dev", "--listen", "127.0.0.1:0", "--", "sh", "-c", `trap 'touch "$0"; exit 0' TERM; echo begun; while :; do sleep 1 & wait; done`, ended)
	eventually.Receive(t, "a line of the command", within.out)
	if code := within.interrupt(t); code != 0 {
		t.Errorf("after an interrupt dev ended with %d", code)
	}
	if _, err := os.Stat(ended); err != nil {
		t.Errorf("the command was not asked to end: %v", err)
	}
}
