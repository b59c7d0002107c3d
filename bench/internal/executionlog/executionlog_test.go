package executionlog_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
)

// writer is the environment variable that makes the test binary a process that records
// runs until it is killed.
const writer = "LEDGER_TEST_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(writer); path != "" {
		noteForever(path)
	}
	os.Exit(m.Run())
}

func noteForever(path string) {
	file, err := executionlog.Open(path)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		if err := file.Ran(fmt.Sprintf("call-%d", i)); err != nil {
			panic(err)
		}
		// The run is recorded before its number is printed.
		fmt.Println(i)
	}
}

func TestEachOutcomeIsJudgedByRuns(t *testing.T) {
	t.Parallel()
	const many = 3
	for _, test := range []struct {
		outcome executionlog.Outcome
		// violations are, for 0 to 3 runs, whether the outcome is false.
		falsehoods [many + 1]bool
	}{
		{executionlog.OK, [...]bool{true, false, false, false}},
		{executionlog.Executed, [...]bool{true, false, false, false}},
		{executionlog.NotSent, [...]bool{false, true, true, true}},
		{executionlog.Refused, [...]bool{false, true, true, true}},
		{executionlog.Unknown, [...]bool{false, false, false, false}},
	} {
		for runs, wrong := range test.falsehoods {
			t.Run(fmt.Sprintf("%s after %d runs", test.outcome, runs), func(t *testing.T) {
				t.Parallel()
				var book executionlog.Log
				for range runs {
					book.Ran("a")
				}
				if err := book.Outcome("a", test.outcome); err != nil {
					t.Fatal(err)
				}
				report := book.Check()
				if got := len(report.FalseOutcomes) == 1; got != wrong {
					t.Errorf("false = %v, want %v", got, wrong)
				}
				if got := len(report.Repeats) == 1; got != (runs > 1) {
					t.Errorf("a repeat = %v after %d runs", got, runs)
				}
				if got := report.Err() != nil; got != (wrong || runs > 1) {
					t.Errorf("Err = %v", report.Err())
				}
				if report.Calls != 1 || report.Runs != runs || report.Outcomes[test.outcome] != 1 || book.Runs("a") != runs {
					t.Errorf("report = %+v", report)
				}
			})
		}
	}
}

func TestARepeatableCallMayRunUpToItsBound(t *testing.T) {
	t.Parallel()
	for runs, violation := range []bool{false, false, false, false, true} {
		var book executionlog.Log
		book.Repeatable("a", 3)
		for range runs {
			book.Ran("a")
		}
		report := book.Check()
		if got := report.Err() != nil; got != violation {
			t.Errorf("after %d runs Err = %v", runs, report.Err())
		}
		if repeated := runs > 1 && !violation; (report.Repeated == 1) != repeated {
			t.Errorf("after %d runs Repeated = %d", runs, report.Repeated)
		}
	}
}

func TestARunThatNobodyAskedForIsCounted(t *testing.T) {
	t.Parallel()
	var book executionlog.Log
	book.Ran("a")
	if report := book.Check(); report.Unended != 1 || report.Calls != 0 || report.Err() != nil {
		t.Errorf("report = %+v", report)
	}
	book.Ran("a")
	if report := book.Check(); len(report.Repeats) != 1 {
		t.Errorf("report = %+v", report)
	}
}

func TestAnOutcomeThatMakesNoSenseIsAnError(t *testing.T) {
	t.Parallel()
	var book executionlog.Log
	if err := book.Outcome("a", "done"); err == nil || !strings.Contains(err.Error(), `"done" is no outcome`) {
		t.Errorf("err = %v", err)
	}
	if err := book.Outcome("a", executionlog.OK); err != nil {
		t.Error(err)
	}
	if err := book.Outcome("a", executionlog.OK); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("err = %v", err)
	}
}

func TestAReportNamesFaults(t *testing.T) {
	t.Parallel()
	var book executionlog.Log
	for i := range 20 {
		id := fmt.Sprintf("call-%02d", i)
		book.Ran(id)
		book.Ran(id)
		if err := book.Outcome(id, executionlog.Refused); err != nil {
			t.Fatal(err)
		}
	}
	text := book.Check().String()
	for _, want := range []string{
		"calls                    20\n", "runs of two or more      20\n", "false outcomes           20\n", "outcome refused          20\n",
		"call-09: outcome refused, ran 2 times\n  …\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if err := book.Check().Err(); err == nil || !strings.Contains(err.Error(), "20 calls ran more often") {
		t.Errorf("Err = %v", err)
	}
}

func TestManyHandlersNoteInOneFile(t *testing.T) {
	t.Parallel()
	const handlers, each = 8, 500
	path := filepath.Join(t.TempDir(), "runs")
	var all sync.WaitGroup
	for handler := range handlers {
		file, err := executionlog.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		all.Go(func() {
			for i := range each {
				if err := file.Ran(fmt.Sprintf("%d-%d", handler, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var book executionlog.Log
	if err := book.Read(path); err != nil {
		t.Fatal(err)
	}
	if report := book.Check(); report.Runs != handlers*each || report.Unended != handlers*each || report.Torn != 0 || report.Err() != nil {
		t.Errorf("report = %v", report)
	}
}

func TestWhatWasNotedOutlivesAKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "runs")
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), writer+"="+path)
	printed, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var last int
	for last < 1000 {
		if _, err := fmt.Fscanln(printed, &last); err != nil {
			t.Fatal(err)
		}
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // its error is that it was killed
	var book executionlog.Log
	if err := book.Read(path); err != nil {
		t.Fatal(err)
	}
	for i := range last + 1 {
		if id := fmt.Sprintf("call-%d", i); book.Runs(id) != 1 {
			t.Fatalf("%s has %d runs, want 1", id, book.Runs(id))
		}
	}
}

func TestALineCutShortIsNoRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "runs")
	for _, text := range []string{"\na;\n", "\nb", "\nc;\n", "\nd"} { // b and d were cut short
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	var book executionlog.Log
	if err := book.Read(path); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]int{"a": 1, "b": 0, "c": 1, "d": 0} {
		t.Run(id, func(t *testing.T) {
			if got := book.Runs(id); got != want {
				t.Errorf("%s has %d runs, want %d", id, got, want)
			}
		})
	}
	if torn := book.Check().Torn; torn != 2 {
		t.Errorf("Torn = %d, want 2", torn)
	}
}

func TestAFaultOfTheFileIsAnError(t *testing.T) {
	t.Parallel()
	var book executionlog.Log
	missing := filepath.Join(t.TempDir(), "missing", "runs")
	if err := book.Read(missing); err == nil {
		t.Error("reading a file that is not there is no error")
	}
	if _, err := executionlog.Open(missing); err == nil {
		t.Error("opening a file in a folder that is not there is no error")
	}
	file, err := executionlog.Open(filepath.Join(t.TempDir(), "runs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "a\nb", "a;"} {
		if err := file.Ran(id); err == nil {
			t.Errorf("the id %q is no error", id)
		}
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if err := file.Ran("a"); err == nil {
		t.Error("a note in a closed file is no error")
	}
}

func BenchmarkRan(b *testing.B) {
	file, err := executionlog.Open(filepath.Join(b.TempDir(), "runs"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	for b.Loop() {
		if err := file.Ran("1-1000000"); err != nil {
			b.Fatal(err)
		}
	}
}
