package framework_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
)

// TestTheCommandsOfThePageIssueCertificates runs the commands of docs/security.md, and
// serves and calls with what they issue.
func TestTheCommandsOfThePageIssueCertificates(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```sh\n")
	commands, _, _ := strings.Cut(block, "```")
	dir := t.TempDir()
	shell := exec.CommandContext(t.Context(), "sh", "-ec", commands)
	shell.Dir = dir
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	files, registry := withTLS(certtest.In(dir)), memory.New()
	serveAny(t, registry, registerAuth, files, framework.Authorize(framework.Policy{"auth": {"spiffe://example.org/auth"}}))
	bus := newBus(t, registry, files)
	ready(t, bus, "auth")
	if _, err := bus.Call(t.Context(), "auth.check_password", framework.Args{"username": "adam", "password": "?"}); err != nil {
		t.Error(err)
	}
}
