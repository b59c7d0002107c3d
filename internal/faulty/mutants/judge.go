package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// buildTime is how long a suite may take to compile, with a cold cache.
	buildTime = 5 * time.Minute
	// testTime is how long a suite may run.
	testTime = time.Minute
	// grace is how much longer its process may take to say where it hangs.
	grace = 10 * time.Second
)

// verdict is what became of a mutant.
type verdict string

const (
	killed   verdict = "killed"
	survived verdict = "SURVIVED"
	harmless verdict = "harmless"
	// harmful is of a mutant that should be harmless.
	harmful    verdict = "HARMFUL"
	stale      verdict = "STALE"
	uncompiled verdict = "DOES NOT COMPILE"
	// undecided: a suite ended badly, but no test of it failed.
	undecided verdict = "UNDECIDED"
)

// judgement is a verdict and its grounds.
type judgement struct {
	verdict verdict
	failed  []string // tests
	err     error    // of the verdicts that are the mutant's own fault
	took    time.Duration
}

func (j judgement) good() bool { return j.verdict == killed || j.verdict == harmless }

// line returns the judgement of a mutant as a line.
func (j judgement) line(m mutant) string {
	text := fmt.Sprintf("%-8s  %s", j.verdict, m.name)
	switch {
	case j.err != nil:
		text += ": " + j.err.Error()
	case len(j.failed) > 0:
		text += ": " + strings.Join(j.failed, ", ")
	case j.verdict == survived:
		text += ", though it breaks this: " + m.breaks
	}
	return fmt.Sprintf("%s (%.1f s)", text, j.took.Seconds())
}

// judgeAll runs the suites as they are and then against each mutant, prints a line for
// each, and returns an error unless all are as they should be.
func judgeAll(ctx context.Context, out io.Writer, root string, all []mutant) (err error) {
	scratch, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	began := time.Now()
	j := judge{root: root, scratch: scratch}
	if err := j.unmutated(ctx, all); err != nil {
		return fmt.Errorf("without a mutant: %w", err)
	}
	fmt.Fprintf(out, "passed    the suites without a mutant (%.1f s)\n", time.Since(began).Seconds())
	bad := 0
	for _, m := range all {
		judged := j.mutant(ctx, m)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fmt.Fprintln(out, judged.line(m))
		if !judged.good() {
			bad++
		}
	}
	fmt.Fprintf(out, "%d mutants, %d not as they should be (%.0f s)\n", len(all), bad, time.Since(began).Seconds())
	if bad > 0 {
		return fmt.Errorf("%d of %d mutants are not as they should be", bad, len(all))
	}
	return nil
}

// judge compiles and runs suites.
type judge struct {
	root    string
	scratch string // a folder of its own
}

// unmutated demands that all tests that are named pass.
func (j judge) unmutated(ctx context.Context, all []mutant) error {
	byPackage := make(map[string][]string)
	var packages []string
	for _, m := range all {
		for _, s := range m.suites {
			if _, known := byPackage[s.pkg]; !known {
				packages = append(packages, s.pkg)
			}
			byPackage[s.pkg] = append(byPackage[s.pkg], s.tests...)
		}
	}
	for _, pkg := range packages {
		slices.Sort(byPackage[pkg])
		s := suite{pkg: pkg, tests: slices.Compact(byPackage[pkg])}
		binary := filepath.Join(j.scratch, "unmutated.test")
		if err := j.compile(ctx, s.pkg, binary); err != nil {
			return err
		}
		ran, err := j.run(ctx, s, binary)
		if err != nil {
			return fmt.Errorf("%s: %w", s.pkg, err)
		}
		for _, test := range s.tests {
			if !slices.Contains(ran.passed, test) {
				return fmt.Errorf("%s: the test %s is not there or did not run", s.pkg, test)
			}
		}
	}
	return nil
}

// mutant judges one.
func (j judge) mutant(ctx context.Context, m mutant) (judged judgement) {
	began := time.Now()
	defer func() { judged.took = time.Since(began) }()
	overlay, err := m.overlay(j.root, j.scratch)
	if err != nil {
		return judgement{verdict: stale, err: err}
	}
	for _, s := range m.suites {
		binary := filepath.Join(j.scratch, "mutated.test")
		if err := j.compile(ctx, s.pkg, binary, "-overlay="+overlay); err != nil {
			return judgement{verdict: uncompiled, err: err}
		}
		ran, err := j.run(ctx, s, binary)
		if err != nil && len(ran.failed) == 0 {
			return judgement{verdict: undecided, err: err}
		}
		judged.failed = append(judged.failed, ran.failed...)
	}
	switch found := len(judged.failed) > 0; {
	case found && m.harmless:
		judged.verdict = harmful
	case found:
		judged.verdict = killed
	case m.harmless:
		judged.verdict = harmless
	default:
		judged.verdict = survived
	}
	return judged
}

// compile makes the test binary of a package. It is a step of its own, so that a
// mutant that does not compile differs from a test that fails.
func (j judge) compile(ctx context.Context, pkg, binary string, flags ...string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	arguments := append([]string{"test", "-c", "-vet=off", "-o", binary}, flags...)
	command := exec.CommandContext(ctx, "go", append(arguments, pkg)...) //nolint:gosec // of the table
	command.Dir = j.root
	command.WaitDelay = grace
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go test -c %s: %w:\n%s", pkg, err, said)
	}
	return nil
}

// results are the tests of a run, subtests aside.
type results struct{ passed, failed []string }

// ended finds the tests that ended. The mark is what -test.v=test2json puts
// before a line that is the testing package's own.
var ended = regexp.MustCompile(`(?m)\x16--- (PASS|FAIL): (\S+)`)

// run runs a suite in the package's folder. The error is that of its process,
// with what it said last.
func (j judge) run(ctx context.Context, s suite, binary string) (results, error) {
	ctx, cancel := context.WithTimeout(ctx, testTime+grace)
	defer cancel()
	command := exec.CommandContext(ctx, binary, //nolint:gosec // made by compile
		"-test.v=test2json", "-test.timeout="+testTime.String(), "-test.run=^("+strings.Join(s.tests, "|")+")$")
	command.Dir = filepath.Join(j.root, filepath.FromSlash(s.pkg))
	command.WaitDelay = grace
	said, err := command.CombinedOutput()
	var ran results
	for _, match := range ended.FindAllSubmatch(said, -1) {
		test := string(match[2])
		switch {
		case strings.Contains(test, "/"):
		case string(match[1]) == "PASS":
			ran.passed = append(ran.passed, test)
		default:
			ran.failed = append(ran.failed, test)
		}
	}
	slices.Sort(ran.failed)
	if err != nil {
		return ran, fmt.Errorf("failed: %s: %w:\n%s", strings.Join(ran.failed, ", "), err, last(said))
	}
	return ran, nil
}

// last returns the end of an output.
func last(said []byte) []byte {
	const most = 2000
	return said[max(0, len(said)-most):]
}
