package archtest_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/internal/archtest"
)

// mostRequirements is how many modules the go.mod of a program with the facade
// and etcd's client may require, indirect ones included. Raise it only for a
// dependency that every user shall have.
const mostRequirements = 30

const outsideGoMod = `module outside

go 1.26.0

require ` + archtest.Module + ` v0.0.0
`

const outsideMain = `package main

import (
	"context"
	"log"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
)

func main() {
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{"http://127.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	bus, err := framework.NewBus(registry)
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()
	if err := framework.Serve(context.Background(), registry, func(grpc.ServiceRegistrar) {}); err != nil {
		log.Fatal(err)
	}
}
`

// heavy is what must not be in a user's build.
var heavy = []string{
	"go.etcd.io/etcd/server",
	"go.etcd.io/raft",
	"go.etcd.io/bbolt",
	archtest.Module + "/discovery/etcd/embed",
	archtest.Module + "/framework/frameworktest",
	archtest.Module + "/framework/schematest",
}

// A user pays for what is imported, not for what the module can do: etcd's
// server, which embed needs, must not reach a program without embed.
func TestAProgramOutsideBuildsWithoutEtcdsServer(t *testing.T) {
	t.Parallel()
	repository, dir := root(t), t.TempDir()
	sums, err := os.ReadFile(filepath.Join(repository, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"go.mod": outsideGoMod, "go.sum": string(sums), "main.go": outsideMain} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string { return runGo(t, dir, args...) }
	run("mod", "edit", "-replace", archtest.Module+"="+repository)
	run("mod", "tidy")
	run("build", "-o", filepath.Join(dir, "outside"), ".")

	packages := strings.Fields(run("list", "-deps", "."))
	if len(packages) < 100 {
		t.Errorf("go list -deps gives %d packages, which can't be all", len(packages))
	}
	for _, built := range packages {
		for _, unwanted := range heavy {
			if built == unwanted || strings.HasPrefix(built, unwanted+"/") {
				t.Errorf("a program with framework and discovery/etcd has %s in its build", built)
			}
		}
	}

	var module map[string]json.RawMessage
	var required []map[string]any
	if err := json.Unmarshal([]byte(run("mod", "edit", "-json")), &module); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(module["Require"], &required); err != nil {
		t.Fatal(err)
	}
	if len(required) < 2 || len(required) > mostRequirements {
		t.Errorf("the go.mod of a program with framework and discovery/etcd requires %d modules, want at most %d: %v", len(required), mostRequirements, required)
	}
}

// runGo runs the go command in dir and returns what it prints.
func runGo(t *testing.T, dir string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	var problems strings.Builder
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, out, problems.String())
	}
	return string(out)
}
