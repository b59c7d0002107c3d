package main_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the help of the commands into docs/command.md")

const page = "../../docs/command.md"

// generatedFrom is the heading of the part of the page that has the help.
const generatedFrom = "## Commands\n"

// TestThePageHasTheReferenceOfAllCommands compares docs/command.md with what the command
// prints about all commands. With -update it writes it.
func TestThePageHasTheReferenceOfAllCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	written, _, found := strings.Cut(string(text), generatedFrom)
	if !found {
		t.Fatalf("%s has no heading %q", page, generatedFrom)
	}
	printed := run(t, place{}, "", "help", "--llm")
	_, reference, found := strings.Cut(printed.out, "\n")
	if printed.code != 0 || !found {
		t.Fatalf("%+v", printed)
	}
	want := written + generatedFrom + strings.ReplaceAll(reference, "\n## ", "\n### ")
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != want {
		t.Errorf("%s does not have the reference of the commands: run make command-reference", page)
	}
}

// TestManualPagesAreWritten writes the manual pages of all commands.
func TestManualPagesAreWritten(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man1")
	if got := run(t, place{}, "", "man", dir); got != (result{}) {
		t.Fatalf("%+v", got)
	}
	for name, want := range map[string]string{"onecall.1": "onecall-doctor(1)", "onecall-call.1": `\fBNAME:=JSON\fP`, "onecall-context-set.1": "--etcd-ca"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if plain := strings.NewReplacer(`\-`, "-", `\fB`, "", `\fP`, "").Replace(string(text)); err != nil || !strings.Contains(plain, strings.NewReplacer(`\fB`, "", `\fP`, "").Replace(want)) {
			t.Errorf("%s has no %s (%v):\n%s", name, want, err, plain)
		}
	}
}

// TestHelpIsOfOneCommand asks for help in its two ways.
func TestHelpIsOfOneCommand(t *testing.T) {
	t.Parallel()
	byFlag, byCommand := run(t, place{}, "", "context", "set", "--help"), run(t, place{}, "", "help", "context", "set")
	if byFlag != byCommand || byFlag.code != 0 || !strings.HasPrefix(byFlag.out, "Make a context") {
		t.Errorf("--help: %+v\nhelp: %+v", byFlag, byCommand)
	}
	if got := run(t, place{}, "", "help", "nope"); got.code != 2 || !strings.Contains(got.errs, `unknown command "nope"`) {
		t.Errorf("%+v", got)
	}
}
