package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tiny is a module with a promise, which two functions keep, and its test.
var tiny = map[string]string{
	"go.mod": "module tiny\n\ngo 1.26\n",
	"kept/kept.go": `package kept

func Kept() bool { return first() || second() }

func first() bool { return true }

func second() bool { return true }
`,
	"kept/kept_test.go": `package kept

import "testing"

func TestKept(t *testing.T) {
	t.Run("part", func(t *testing.T) {
		if !Kept() {
			t.Error("broken")
		}
	})
}

func TestOther(t *testing.T) {
	t.Parallel()
	t.Log("--- FAIL: TestNone (0.00s)")
}
`,
}

// module writes the tiny module, and sees to it that temporary files go where
// the test can tell that none is left.
func module(t *testing.T) (root, temporary string) {
	t.Helper()
	root, temporary = t.TempDir(), t.TempDir()
	for name, text := range tiny {
		name = filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", temporary)
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
	return root, temporary
}

// change gives an edit of the tiny package.
func change(old, text string) edit { return edit{file: "kept/kept.go", old: old, new: text} }

var (
	both     = []suite{{pkg: "./kept", tests: []string{"TestKept", "TestOther"}}}
	firstOff = change("func first() bool { return true }", "func first() bool { return false }")
	allOff   = edit{file: "kept/kept.go", old: "bool { return true }", new: "bool { return false }", times: 2}
)

func TestVerdictsAreToldApart(t *testing.T) {
	root, temporary := module(t)
	for want, m := range map[string]mutant{
		"killed    m: TestKept (":                                  {edits: []edit{allOff}},
		"SURVIVED  m, though it breaks this: it is kept (":         {edits: []edit{firstOff}},
		"harmless  m (":                                            {edits: []edit{firstOff}, harmless: true},
		"HARMFUL   m: TestKept (":                                  {edits: []edit{allOff}, harmless: true},
		`STALE     m: kept/kept.go has the text "third" 0 times`:   {edits: []edit{change("third", "")}},
		`STALE     m: kept/kept.go has the text "first()" 2 times`: {edits: []edit{change("first()", "")}},
		"STALE     m: open ":                                       {edits: []edit{{file: "kept/gone.go", old: "x"}}},
		"DOES NOT COMPILE  m: go test -c ./kept: ":                 {edits: []edit{change("return first()", "return third()")}},
		"UNDECIDED  m: failed: ":                                   {edits: []edit{change("func Kept() bool {", "func init() { panic(0) }\n\nfunc Kept() bool {")}},
	} {
		t.Run(want, func(t *testing.T) {
			m.name, m.breaks, m.suites = "m", "it is kept", both
			var out bytes.Buffer
			err := judgeAll(t.Context(), &out, root, []mutant{m})
			_, line, _ := strings.Cut(out.String(), "\n")
			if !strings.HasPrefix(line, want) {
				t.Errorf("the line is %q, want one that begins with %q", line, want)
			}
			good := strings.HasPrefix(want, "killed") || strings.HasPrefix(want, "harmless")
			if (err == nil) != good {
				t.Errorf("after %q the error is %v", want, err)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(root, "kept", "kept.go")); err != nil || string(text) != tiny["kept/kept.go"] {
		t.Errorf("the module was changed to %s (%v)", text, err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v (%v)", left, err)
	}
}

func TestSuitesMustPassWithoutAMutant(t *testing.T) {
	root, _ := module(t)
	m := mutant{name: "m", edits: []edit{allOff}, suites: []suite{{pkg: "./kept", tests: []string{"TestKept", "TestGone"}}}}
	if err := judgeAll(t.Context(), new(bytes.Buffer), root, []mutant{m}); err == nil || !strings.Contains(err.Error(), "TestGone is not there") {
		t.Errorf("with a test that is not there: %v", err)
	}
	broken := strings.ReplaceAll(tiny["kept/kept.go"], "true", "false")
	if err := os.WriteFile(filepath.Join(root, "kept", "kept.go"), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	m.suites = both
	var out bytes.Buffer
	if err := judgeAll(t.Context(), &out, root, []mutant{m}); err == nil || !strings.Contains(err.Error(), "without a mutant: ./kept: failed: TestKept") || out.Len() > 0 {
		t.Errorf("with a suite that fails as it is: %v\n%s", err, out.String())
	}
}

// TestNoMutantIsStale finds a mutant that is out of date without running any.
func TestNoMutantIsStale(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, m := range mutants() {
		if _, err := m.overlay(root, t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if names[m.name] || m.breaks == "" || len(m.suites) == 0 {
			t.Errorf("%s: its name is not its own, or it lacks a promise or suites", m.name)
		}
		names[m.name] = true
	}
}
