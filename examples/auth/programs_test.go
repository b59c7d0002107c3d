package auth_test

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
)

// build builds a program of the examples.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	return path
}

func TestTheProgramsOfTheREADMERun(t *testing.T) {
	t.Parallel()
	service, caller := build(t, "service"), build(t, "caller")
	server, err := embed.Start(t.Context(), embed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	endpoint := server.Endpoints()[0]

	running := exec.CommandContext(t.Context(), service, "-etcd", endpoint, "-store", filepath.Join(t.TempDir(), "accounts.json"))
	var log bytes.Buffer
	running.Stderr = &log
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	registry, err := etcd.Open(etcd.Config{Endpoints: server.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	watched := discoverytest.Watch(t, registry, "auth")
	watched.Until(t, "an instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 1 })

	out, err := exec.CommandContext(t.Context(), caller, "-etcd", endpoint).CombinedOutput()
	if want := "the password of admin is right: true\nadmin has id 1 and is an administrator: true\nby name: map[valid:true]\n"; err != nil || string(out) != want {
		t.Errorf("the caller printed %q (%v), want %q", out, err, want)
	}
	out, err = exec.CommandContext(t.Context(), build(t, "reset"), "-etcd", endpoint).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "the new password of adam is ") {
		t.Errorf("reset printed %q (%v)", out, err)
	}
	out, err = exec.CommandContext(t.Context(), caller, "-etcd", endpoint, "-username", "nobody").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `no such account: username "nobody"`) {
		t.Errorf("for an account that is not there the caller printed %q (%v)", out, err)
	}

	if err := running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := running.Wait(); err != nil {
		t.Errorf("the service ended with %v:\n%s", err, log.String())
	}
	watched.UntilAddresses(t)
	out, err = exec.CommandContext(t.Context(), caller, "-etcd", endpoint).CombinedOutput()
	if err == nil || !strings.Contains(string(out), `API "auth" has no instance: it is not served now`) {
		t.Errorf("without a service the caller printed %q (%v)", out, err)
	}
}

func TestTheCallerSaysThatEtcdIsAway(t *testing.T) {
	t.Parallel()
	caller := build(t, "caller")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, caller, "-etcd", "http://127.0.0.1:1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the registry can't be reached: etcd at http://127.0.0.1:1") {
		t.Errorf("without etcd the caller printed %q (%v)", out, err)
	}
	out, err = exec.CommandContext(ctx, caller, "-etcd", "127.0.0.1:2379").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `etcd: Config.Endpoints[0]: "127.0.0.1:2379" is not an http or https URL`) {
		t.Errorf("with a bad URL the caller printed %q (%v)", out, err)
	}
}
