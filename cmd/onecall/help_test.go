package main_test

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the help of the commands into docs/command.md")

const page = "../../docs/command.md"

// generatedFrom is the heading of the part of the page that has the help.
const generatedFrom = "## Commands\n"

// TestThePageHasTheHelpOfEachCommand compares docs/command.md with what the commands print
// with --help. With -update it writes it.
func TestThePageHasTheHelpOfEachCommand(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	written, _, found := strings.Cut(string(text), generatedFrom)
	if !found {
		t.Fatalf("%s has no heading %q", page, generatedFrom)
	}
	root := help(t)
	var out strings.Builder
	out.WriteString(written + generatedFrom + "\n```text\n" + root + "```\n")
	for _, name := range commandsOf(root) {
		out.WriteString("\n### onecall " + name + "\n\n```text\n" + help(t, name) + "```\n")
		if name == "completion" { // its commands are the shells
			continue
		}
		for _, below := range commandsOf(help(t, name)) {
			out.WriteString("\n### onecall " + name + " " + below + "\n\n```text\n" + help(t, name, below) + "```\n")
		}
	}
	want := out.String()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != want {
		t.Errorf("%s does not have the help of the commands: run go test -run %s . -update in cmd/onecall", page, t.Name())
	}
}

// help returns the help of a command, without the flags that all commands have.
func help(t *testing.T, command ...string) string {
	t.Helper()
	got := run(t, "", "", append(command, "--help")...)
	if got.code != 0 || got.errs != "" {
		t.Fatalf("%v --help: %+v", command, got)
	}
	text, _, _ := strings.Cut(got.out, "\nGlobal Flags:\n")
	return text
}

// commandsOf returns the commands that the help lists.
func commandsOf(root string) []string {
	_, listed, _ := strings.Cut(root, "Available Commands:\n")
	listed, _, _ = strings.Cut(listed, "\n\n")
	var names []string
	for line := range strings.Lines(listed) {
		if name := strings.Fields(line)[0]; name != "help" {
			names = append(names, name)
		}
	}
	return names
}
