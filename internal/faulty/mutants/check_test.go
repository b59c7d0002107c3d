package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tiny is a module with a promise that each of two functions keeps, and its tests. Its package
// framework has two ways of calls.
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
	"framework/framework.go": `package framework

func Call(way string) bool {
	if way == "process" {
		return linked()
	}
	return connected()
}

func linked() bool { return true }

func connected() bool { return true }
`,
	"framework/framework_test.go": `package framework

import (
	"flag"
	"testing"
)

var way = flag.String("way", "socket", "")

func TestTakesTheWay(t *testing.T) {
	if !Call(*way) {
		t.Error("broken")
	}
}

func TestTakesAnother(t *testing.T) {
	if !Call("socket") {
		t.Error("broken")
	}
}
`,
}

// module writes the tiny module, and sets a folder for temporary files, so that the
// test can check that none remains.
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

// change returns an edit of one function of the tiny package.
func change(in, old, text string) edit { return edit{pkg: "./kept", in: in, old: old, new: text} }

var (
	both     = []suite{{pkg: "./kept", tests: []string{"TestKept", "TestOther"}}}
	firstOff = []edit{change("first", "true", "false")}
	allOff   = append(firstOff, change("second", "return  /* always */ true", "return false"))
)

func TestEachResultIsReported(t *testing.T) {
	root, temporary := module(t)
	for want, m := range map[string]mutant{
		"killed    m: TestKept (":                                           {edits: allOff},
		"SURVIVED  m, though it breaks this: it is kept (":                  {edits: firstOff},
		"harmless  m (":                                                     {edits: firstOff, harmless: true},
		"HARMFUL   m: TestKept (":                                           {edits: allOff, harmless: true},
		`STALE     m: ./kept: Kept: it has the code "third" 0 times`:        {edits: []edit{change("Kept", "third", "")}},
		`STALE     m: ./kept: Kept: it has the code "()" 3 times`:           {edits: []edit{change("Kept", "()", "")}},
		"STALE     m: ./kept: gone: there are 0 such declarations, not one": {edits: []edit{change("gone", "true", "")}},
		`STALE     m: ./kept: first: the code to replace is empty`:          {edits: []edit{change("first", "// nothing", "")}},
		`STALE     m: ./kept: first: "if" is no Go code there`:              {edits: []edit{change("first", "true", "if")}},
		"DOES NOT COMPILE  m: go test -c ./kept: ":                          {edits: []edit{change("Kept", "first()", "third()")}},
		"UNDECIDED  m: failed: ":                                            {edits: []edit{{pkg: "./kept", in: "first", old: "true", new: "os.Args != nil", imports: []string{"os"}, declares: "func init() { panic(0) }"}}},
	} {
		t.Run(want, func(t *testing.T) {
			m.name, m.breaks, m.suites = "m", "it is kept", both
			var out bytes.Buffer
			err := checkAll(t.Context(), &out, root, way{}, []mutant{m})
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

func TestOverAWayOnlyTestsCountThatTakeIt(t *testing.T) {
	root, _ := module(t)
	off := func(function string) []edit {
		return []edit{{pkg: facade, in: function, old: "true", new: "false"}}
	}
	process := way{name: "process", has: []part{link}, broken: []edit{{pkg: facade, in: "linked", old: "return true", new: "panic(0)"}}}
	for want, m := range map[string]mutant{
		"killed    m: TestTakesTheWay (":                                 {edits: off("linked")},
		"elsewhere  m: it is about a connection (":                       {edits: off("connected"), needs: connection},
		"SURVIVED  m, though it breaks this: it is kept (":               {edits: off("connected")},
		"SURVIVED  m: none of its tests has a call that takes the way (": {edits: off("linked"), suites: of(facade, "TestTakesAnother")},
		"harmless  m (": {edits: off("connected"), harmless: true},
		"SURVIVED  m: none of its tests has a call that takes the way (0.0 s": {edits: off("connected"), harmless: true, suites: of(facade, "TestTakesAnother")},
	} {
		t.Run(want, func(t *testing.T) {
			m.name, m.breaks = "m", "it is kept"
			if m.suites == nil {
				m.suites = of(facade, "TestTakesTheWay", "TestTakesAnother")
			}
			var out bytes.Buffer
			err := checkAll(t.Context(), &out, root, process, []mutant{m})
			_, line, _ := strings.Cut(out.String(), "\n")
			if !strings.HasPrefix(line, want) {
				t.Errorf("the line is %q, want one that begins with %q", line, want)
			}
			if good := !strings.HasPrefix(want, "SURVIVED"); (err == nil) != good {
				t.Errorf("after %q the error is %v", want, err)
			}
		})
	}
}

// TestAWayIsChosenByName also compares the names with those of package framework's tests.
func TestAWayIsChosenByName(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), "", "pigeon")
	if err == nil || !strings.Contains(err.Error(), `there is no way "pigeon", but "tcp", "socket", `) {
		t.Errorf("an unknown way = %v", err)
	}
	if chosen, err := wayOf(""); err != nil || len(chosen.flags()) != 0 || len(chosen.suites(mutant{suites: both})) != 1 || chosen.lacks(mutant{needs: link}) {
		t.Errorf("without a way: %v, %v", chosen, err)
	}
	process, err := wayOf("process")
	if err != nil || !slices.Equal(process.flags(), []string{"-way=process"}) {
		t.Errorf("a way passes %q, %v", process.flags(), err)
	}
	if got := process.suites(mutant{suites: append(of(facade, "Test"), both...)}); len(got) != 1 || got[0].pkg != facade {
		t.Errorf("over a way these suites are run: %v", got)
	}
	text := testFiles(t, filepath.Join("..", "..", "..", facade))
	_, text, _ = strings.Cut(text, "\nvar ways = []way{\n")
	text, _, _ = strings.Cut(text, "\n}\n")
	lines := strings.Split(text, "\n")
	if len(lines) != len(ways) {
		t.Fatalf("framework has these ways:\n%s", text)
	}
	for i, w := range ways {
		if name := fmt.Sprintf("{name: %q,", w.name); !strings.Contains(lines[i], name) && (w.name != "socket" || !strings.Contains(lines[i], "{name: network,")) {
			t.Errorf("framework's way is %s, want %q", lines[i], w.name)
		}
	}
	for _, w := range ways {
		if _, err := (mutant{edits: w.broken}).overlay(filepath.Join("..", "..", ".."), t.TempDir()); err != nil {
			t.Errorf("what breaks %s: %v", w.name, err)
		}
	}
}

func TestSuitesMustPassWithoutAMutant(t *testing.T) {
	root, _ := module(t)
	m := mutant{name: "m", edits: allOff, suites: []suite{{pkg: "./kept", tests: []string{"TestKept", "TestGone"}}}}
	if err := checkAll(t.Context(), new(bytes.Buffer), root, way{}, []mutant{m}); err == nil || !strings.Contains(err.Error(), "TestGone is not there") {
		t.Errorf("with a test that is not there: %v", err)
	}
	broken := strings.ReplaceAll(tiny["kept/kept.go"], "true", "false")
	if err := os.WriteFile(filepath.Join(root, "kept", "kept.go"), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	m.suites = both
	var out bytes.Buffer
	if err := checkAll(t.Context(), &out, root, way{}, []mutant{m}); err == nil || !strings.Contains(err.Error(), "without a mutant: ./kept: failed: TestKept") || out.Len() > 0 {
		t.Errorf("with a suite that fails as it is: %v\n%s", err, out.String())
	}
}

// TestNoMutantIsStale finds stale mutants, and suites that name a test that does not
// exist, without running any.
func TestNoMutantIsStale(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	names, tests := make(map[string]bool), make(map[string]string)
	for _, m := range mutants() {
		if _, err := m.overlay(root, t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		if names[m.name] || m.breaks == "" || len(m.suites) == 0 {
			t.Errorf("%s: its name is not its own, or it lacks a promise or suites", m.name)
		}
		names[m.name] = true
		for _, s := range m.suites {
			if tests[s.pkg] == "" {
				tests[s.pkg] = testFiles(t, filepath.Join(root, s.pkg))
			}
			for _, test := range s.tests {
				if !strings.Contains(tests[s.pkg], "\nfunc "+test+"(t *testing.T)") {
					t.Errorf("%s: %s has no test %s", m.name, s.pkg, test)
				}
			}
		}
	}
}

// testFiles returns the text of a package's test files.
func testFiles(t *testing.T, folder string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
