package main_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/internal/eventually"
)

// loadRecord is what bench prints as JSON.
type loadRecord struct {
	RPC           string             `json:"rpc"`
	Planned       int                `json:"planned"`
	Begun         int                `json:"begun"`
	Interrupted   int                `json:"interrupted"`
	Seconds       float64            `json:"seconds"`
	LatencyMillis map[string]float64 `json:"latencyMillis"`
	Outcomes      []struct {
		Outcome string `json:"outcome"`
		Code    string `json:"code"`
		Calls   int    `json:"calls"`
	} `json:"outcomes"`
	Histogram []struct {
		Calls int `json:"calls"`
	} `json:"histogram"`
}

func readLoad(t *testing.T, out string) loadRecord {
	t.Helper()
	var record loadRecord
	if err := json.Unmarshal([]byte(out), &record); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return record
}

// TestBenchMeasuresAtAFixedRate measures calls that succeed and calls that fail.
func TestBenchMeasuresAtAFixedRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := run(t, w.place, "", "bench", "auth.get_user", "username=admin", "--rate", "50", "--duration", "400ms", "-o", "json")
	record := readLoad(t, got.out)
	counted := 0
	for _, bar := range record.Histogram {
		counted += bar.Calls
	}
	if got.code != 0 || got.errs != "" || record.RPC != "auth.get_user" || record.Planned != 20 || record.Begun != 20 || counted != 20 ||
		len(record.Outcomes) != 1 || record.Outcomes[0].Code != "OK" || record.Outcomes[0].Calls != 20 || record.Seconds < 0.38 {
		t.Errorf("%+v: %+v", record, got)
	}
	for _, pair := range [][2]string{{"min", "p50"}, {"p50", "p90"}, {"p90", "p99"}, {"p99", "p99.9"}, {"p99.9", "max"}} {
		if a, b := record.LatencyMillis[pair[0]], record.LatencyMillis[pair[1]]; a <= 0 || a > b {
			t.Errorf("%s is %v and %s is %v", pair[0], a, pair[1], b)
		}
	}
	got = run(t, w.place, "", "bench", "auth.get_user", "username=nobody", "--rate", "100", "--duration", "50ms")
	if got.code != 1 || got.errs != "onecall: 5 of 5 calls failed\n" || !strings.Contains(got.out, "         5  NOT_FOUND, executed\n") || !strings.Contains(got.out, "█") || !strings.Contains(got.out, "p99.9  ") {
		t.Errorf("calls that fail: %+v", got)
	}
	got = run(t, w.place, "", "bench", "auth.get_user", "username=admin", "--rate", "100", "--duration", "50ms", "-o", "plain")
	if lines := strings.Split(got.out, "\n"); got.code != 0 || len(lines) != 8 || !strings.HasPrefix(lines[0], "min\t") || lines[6] != "executed\tOK\t5" {
		t.Errorf("plain: %+v", got)
	}
}

// TestBenchRefusesWhatIsNotSafe uses RPCs that may change something, and wrong flags.
func TestBenchRefusesWhatIsNotSafe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for args, want := range map[string]struct {
		code int
		says string
	}{
		"auth.reset_password username=admin":           {2, "give --effects"},
		"auth.reset_password username=admin --effects": {0, ""},
		"test.echo.watch text=a":                       {2, "is a stream"},
		"auth.get_user":                                {10, "username is missing"},
		"auth.get_usr":                                 {1, "no such RPC"},
		"auth.get_user username=admin --rate 0":        {2, "--rate 0"},
		"auth.get_user username=admin --rate NaN":      {2, "--rate NaN"},
		"auth.get_user username=admin --duration -1s":  {2, "--duration -1s"},
		"auth.get_user username=admin --in-flight 0":   {2, "--in-flight 0"},
		"auth.get_user admin":                          {2, "has no name"},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			got := run(t, w.place, "", append([]string{"bench", "--rate", "100", "--duration", "20ms"}, strings.Fields(args)...)...)
			if got.code != want.code || !strings.Contains(got.errs, want.says) || strings.Count(got.errs, "\n") > 1 || (got.out == "") != (got.code != 0) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestAnInterruptedBenchPrintsWhatItMeasured interrupts a load of an hour.
func TestAnInterruptedBenchPrintsWhatItMeasured(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bench := start(t, w.env(), "bench", "test.kinds.sign_in", "username=x", "password=y", "--effects", "--rate", "50", "--duration", "1h", "--in-flight", "4", "-o", "jsonl")
	for range 5 { // the first call, which is not measured, and four more
		eventually.Receive(t, "a call", w.kinds.begun)
		w.kinds.ended <- struct{}{}
	}
	eventually.Receive(t, "a call", w.kinds.begun)
	if err := bench.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	record := readLoad(t, eventually.Receive(t, "the record", bench.out))
	if len(record.Outcomes) != 1 || record.Outcomes[0].Calls < 4 || record.Interrupted < 1 || record.Planned > 1000 {
		t.Errorf("%+v", record)
	}
	close(w.kinds.ended)
	if _ = bench.command.Wait(); bench.command.ProcessState.ExitCode() != 0 {
		t.Errorf("ended with %d", bench.command.ProcessState.ExitCode())
	}
}
