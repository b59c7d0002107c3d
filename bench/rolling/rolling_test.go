package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
)

// TestMain lets the test binary run as an instance.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-etcd" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestRestartsLoseNothing(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]settings{
		"only buses call":                {rounds: 2, instances: 2, callers: 8},
		"plain callers of a Service too": {rounds: 1, instances: 2, callers: 8, late: 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := roll(t.Context(), settings)
			if err == nil {
				err = result.err()
			}
			if err != nil {
				t.Errorf("%v\n%s", err, result)
			}
		})
	}
}

func TestAResultIsJudged(t *testing.T) {
	t.Parallel()
	sound := func() result {
		return result{
			counts: counts{calls: 100, plain: 10, streams: 4, longest: time.Second},
			ends:   []time.Duration{time.Second, 2 * time.Second}, took: 10 * time.Second, retries: 3,
			settings: settings{rounds: 1, instances: 2, late: 1},
		}
	}
	if err := sound().err(); err != nil {
		t.Errorf("a sound result: %v", err)
	}
	for want, spoil := range map[string]func(*result){
		"2 calls failed":          func(r *result) { r.failed = map[string]int{"x": 2} },
		"3 streams were not told": func(r *result) { r.cut = map[string]int{"x": 1, "y": 2} },
		"1 calls ran more often":  func(r *result) { r.report.Repeats = make([]executionlog.Violation, 1) },
		"1 outcomes were false":   func(r *result) { r.report.FalseOutcomes = make([]executionlog.Violation, 1) },
		"must be 2 restarts":      func(r *result) { r.ends = r.ends[:1] },
		"restarts, calls":         func(r *result) { r.calls = 0 },
		"nothing was proven":      func(r *result) { r.plain = 0 },
		"streams that were told":  func(r *result) { r.streams = 0 },
	} {
		t.Run(want, func(t *testing.T) {
			spoilt := sound()
			spoil(&spoilt)
			if err := spoilt.err(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("err = %v, want %q", err, want)
			}
		})
	}
	for _, want := range []string{"restarts                 2\n", "2s at most", "calls                    100 of buses, 10 of plain callers\n", "calls a second           11\n", "failed calls             0\n", "calls that ran twice     0\n"} {
		if !strings.Contains(sound().String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, sound())
		}
	}
}

func TestBadFlagsAreErrors(t *testing.T) {
	t.Parallel()
	for _, bad := range []settings{
		{instances: 2, callers: 4},
		{rounds: 1, instances: 1, callers: 4},
		{rounds: 1, instances: 2, callers: 3},
		{rounds: 1, instances: 2, callers: 4, late: -1},
	} {
		if err := start(instance{}, bad); err == nil {
			t.Errorf("%+v is no error", bad)
		}
	}
}
