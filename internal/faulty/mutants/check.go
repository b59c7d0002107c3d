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
	// grace is how much longer its process may take to print where it hangs.
	grace = 10 * time.Second
)

// status is the result of a mutant in one word.
type status string

const (
	killed   status = "killed"
	survived status = "SURVIVED"
	harmless status = "harmless"
	// elsewhere: calls over the way do not have what the mutant breaks.
	elsewhere status = "elsewhere"
	// harmful: a mutant that should be harmless made a test fail.
	harmful    status = "HARMFUL"
	stale      status = "STALE"
	uncompiled status = "DOES NOT COMPILE"
	// undecided: the process of a suite failed, but no test failed.
	undecided status = "UNDECIDED"
)

// result is a status with its reasons.
type result struct {
	status status
	failed []string // tests
	err    error    // if the mutant itself could not be run
	took   time.Duration
}

func (r result) good() bool {
	return r.status == killed || r.status == harmless || r.status == elsewhere
}

// line returns the result of a mutant as a line.
func (r result) line(m mutant) string {
	text := fmt.Sprintf("%-8s  %s", r.status, m.name)
	switch {
	case r.err != nil:
		text += ": " + r.err.Error()
	case len(r.failed) > 0:
		text += ": " + strings.Join(r.failed, ", ")
	case r.status == survived:
		text += ", though it breaks this: " + m.breaks
	}
	return fmt.Sprintf("%s (%.1f s)", text, r.took.Seconds())
}

// checkAll runs the suites over a way without a mutant and then with each mutant, and writes
// a line for each. It returns an error unless all results are as they should be.
func checkAll(ctx context.Context, out io.Writer, root string, over way, all []mutant) (err error) {
	scratch, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	began := time.Now()
	c := checker{root: root, scratch: scratch, over: over}
	there := slices.DeleteFunc(slices.Clone(all), over.lacks)
	if err := c.unmutated(ctx, there); err != nil {
		return fmt.Errorf("without a mutant: %w", err)
	}
	if c.elsewhere, err = c.untaken(ctx, there); err != nil {
		return fmt.Errorf("with the way broken: %w", err)
	}
	fmt.Fprintf(out, "passed    the suites without a mutant (%.1f s)\n", time.Since(began).Seconds())
	bad := 0
	for _, m := range all {
		checked := c.mutant(ctx, m)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fmt.Fprintln(out, checked.line(m))
		if !checked.good() {
			bad++
		}
	}
	fmt.Fprintf(out, "%d mutants, %d not as they should be (%.0f s)\n", len(all), bad, time.Since(began).Seconds())
	if bad > 0 {
		return fmt.Errorf("%d of %d mutants are not as they should be", bad, len(all))
	}
	return nil
}

// checker compiles and runs suites.
type checker struct {
	root    string
	scratch string // a temporary folder
	over    way
	// elsewhere are tests that do not count, because none of their calls takes the way.
	elsewhere []string
}

// merged returns one suite for each package, with all tests of the mutants.
func merged(all []mutant) []suite {
	var suites []suite
	for _, m := range all {
		for _, s := range m.suites {
			at := slices.IndexFunc(suites, func(known suite) bool { return known.pkg == s.pkg })
			if at < 0 {
				at, suites = len(suites), append(suites, suite{pkg: s.pkg})
			}
			suites[at].tests = append(suites[at].tests, s.tests...)
		}
	}
	for i, s := range suites {
		slices.Sort(s.tests)
		suites[i].tests = slices.Compact(s.tests)
	}
	return suites
}

// unmutated requires that all tests of the suites exist and pass.
func (c checker) unmutated(ctx context.Context, all []mutant) error {
	for _, s := range merged(all) {
		binary := filepath.Join(c.scratch, "unmutated.test")
		if err := c.compile(ctx, s.pkg, binary); err != nil {
			return err
		}
		ran, err := c.run(ctx, s, binary)
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

// untaken returns the tests that pass although each call over the way panics. Each test runs
// in a process of its own, which a panic ends.
func (c checker) untaken(ctx context.Context, all []mutant) (tests []string, err error) {
	if len(c.over.broken) == 0 {
		return nil, nil
	}
	overlay, err := mutant{edits: c.over.broken}.overlay(c.root, c.scratch)
	if err != nil {
		return nil, err
	}
	for _, s := range merged(all) {
		binary := filepath.Join(c.scratch, "broken.test")
		if err := c.compile(ctx, s.pkg, binary, "-overlay="+overlay); err != nil {
			return nil, err
		}
		for _, test := range s.tests {
			if _, err := c.run(ctx, suite{s.pkg, []string{test}}, binary); err == nil {
				tests = append(tests, test)
			}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return tests, nil
}

// counting returns the suites of a mutant without the tests that do not take the way.
func (c checker) counting(m mutant) []suite {
	var suites []suite
	for _, s := range m.suites {
		s.tests = slices.DeleteFunc(slices.Clone(s.tests), func(test string) bool { return slices.Contains(c.elsewhere, test) })
		if len(s.tests) > 0 {
			suites = append(suites, s)
		}
	}
	return suites
}

// mutant runs the suites with one mutant.
func (c checker) mutant(ctx context.Context, m mutant) (checked result) {
	began := time.Now()
	defer func() { checked.took = time.Since(began) }()
	if c.over.lacks(m) {
		return result{status: elsewhere, err: fmt.Errorf("it is about %s", m.needs)}
	}
	overlay, err := m.overlay(c.root, c.scratch)
	if err != nil {
		return result{status: stale, err: err}
	}
	suites := c.counting(m)
	if len(suites) == 0 {
		return result{status: survived, err: errors.New("none of its tests has a call that takes the way")}
	}
	for _, s := range suites {
		binary := filepath.Join(c.scratch, "mutated.test")
		if err := c.compile(ctx, s.pkg, binary, "-overlay="+overlay); err != nil {
			return result{status: uncompiled, err: err}
		}
		ran, err := c.run(ctx, s, binary)
		if err != nil && len(ran.failed) == 0 {
			return result{status: undecided, err: err}
		}
		checked.failed = append(checked.failed, ran.failed...)
	}
	switch found := len(checked.failed) > 0; {
	case found && m.harmless:
		checked.status = harmful
	case found:
		checked.status = killed
	case m.harmless:
		checked.status = harmless
	default:
		checked.status = survived
	}
	return checked
}

// compile builds the test binary of a package. It is a separate step, to distinguish
// a mutant that does not compile from a test that fails.
func (c checker) compile(ctx context.Context, pkg, binary string, flags ...string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	arguments := append([]string{"test", "-c", "-vet=off", "-o", binary}, flags...)
	command := exec.CommandContext(ctx, "go", append(arguments, pkg)...) //nolint:gosec // of the table
	command.Dir = c.root
	command.WaitDelay = grace
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go test -c %s: %w:\n%s", pkg, err, said)
	}
	return nil
}

// testRun lists the tests of a run without subtests.
type testRun struct{ passed, failed []string }

// ended matches the tests that ended. The flag -test.v=test2json puts the mark before
// each line of the testing package itself.
var ended = regexp.MustCompile(`(?m)\x16--- (PASS|FAIL): (\S+)`)

// run runs a suite in the package's folder. Its error is that of the process, with the
// end of the output.
func (c checker) run(ctx context.Context, s suite, binary string) (testRun, error) {
	ctx, cancel := context.WithTimeout(ctx, testTime+grace)
	defer cancel()
	flags := append([]string{"-test.v=test2json", "-test.timeout=" + testTime.String(), "-test.run=^(" + strings.Join(s.tests, "|") + ")$"}, c.over.flags()...)
	command := exec.CommandContext(ctx, binary, flags...) //nolint:gosec // made by compile
	command.Dir = filepath.Join(c.root, filepath.FromSlash(s.pkg))
	command.WaitDelay = grace
	said, err := command.CombinedOutput()
	var ran testRun
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
