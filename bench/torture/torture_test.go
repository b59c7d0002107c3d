package main

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/discovery"
)

// TestMain lets the test binary run as an instance.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "-serve" {
		if err := start(os.Args[2], os.Args[4], settings{}); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

func TestInstancesAreTorturedAndCallsSucceed(t *testing.T) {
	t.Parallel()
	result, err := torture(t.Context(), settings{length: 2 * time.Second, callers: 4, instances: 2, replayed: 0.5, repeatable: 0.1, silent: 0.5, cut: 0.5, sockets: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if result.report.Outcomes[executionlog.OK] == 0 || result.killed+result.stopped < 3 || result.replays.sent == 0 || result.report.Runs == 0 || result.report.Unended > 0 {
		t.Errorf("result = \n%s", result)
	}
	if sockets := result.sockets > 0; sockets != (runtime.GOOS == "linux" || runtime.GOOS == "darwin") {
		t.Errorf("connections were made over unix sockets: %v", sockets)
	}
}

func TestInstancesOfThisProcessAreTorturedAndCallsSucceed(t *testing.T) {
	t.Parallel()
	result, err := tortureOwn(t.Context(), settings{length: 2 * time.Second, callers: 4, instances: 2, repeatable: 0.1, silent: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if err := result.err(); err != nil || result.linked == 0 || result.report.Unended > 0 {
		t.Errorf("result = \n%s%v", result, err)
	}
}

func TestAResultIsJudged(t *testing.T) {
	t.Parallel()
	sound := func() result {
		return result{
			report: executionlog.Report{Calls: 100, Outcomes: map[executionlog.Outcome]int{executionlog.OK: 95}}, refused: 5,
			killed: 1, stopped: 1, took: time.Second, replays: replays{sent: 1, wanted: true},
		}
	}
	if err := sound().err(); err != nil {
		t.Errorf("a sound result: %v", err)
	}
	for want, spoil := range map[string]func(*result){
		"1 calls ran more often": func(r *result) { r.report.Repeats = make([]executionlog.Violation, 1) },
		"1 outcomes were false":  func(r *result) { r.report.FalseOutcomes = make([]executionlog.Violation, 1) },
		"6.0 % of the calls":     func(r *result) { r.refused = 6 },
		"nothing was proven":     func(r *result) { r.killed = 0 },
		"there must be":          func(r *result) { r.stopped = 0 },
		"calls that succeed":     func(r *result) { r.report.Outcomes = nil },
		"and replays":            func(r *result) { r.replays.sent = 0 },
		"without the network":    func(r *result) { r.wantsLinked = true },
	} {
		t.Run(want, func(t *testing.T) {
			spoilt := sound()
			spoil(&spoilt)
			if err := spoilt.err(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("err = %v, want %q", err, want)
			}
		})
	}
	for _, want := range []string{"calls                    100\n", "refused calls            5 (5.00 %)\n", "calls a second           100\n", "replays                  1: "} {
		if !strings.Contains(sound().String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, sound())
		}
	}
}

func TestBadFlagsAreErrors(t *testing.T) {
	t.Parallel()
	for _, bad := range []settings{
		{callers: 1, instances: 1},
		{length: 1, instances: 1},
		{length: 1, callers: 1},
		{length: 1, callers: 1, instances: 1, replayed: 1.1},
		{length: 1, callers: 1, instances: 1, repeatable: -0.1},
		{length: 1, callers: 1, instances: 1, silent: 2},
	} {
		if err := start("", "", bad); err == nil {
			t.Errorf("%+v is no error", bad)
		}
	}
}

func TestNewsAreLateAndInOrder(t *testing.T) {
	t.Parallel()
	const late, many = 5 * time.Millisecond, 20
	registry := newLateRegistry(late, 0)
	defer registry.close()
	told := make(chan int, many+1)
	stop := registry.Watch("a", func(snapshot discovery.Snapshot) { told <- len(snapshot.Instances) })
	var want []int
	for i := range many {
		if _, err := registry.Register(discovery.Instance{API: "a", Address: "127.0.0.1:" + string(rune('1'+i%9)) + strings.Repeat("0", i/9)}); err != nil {
			t.Fatal(err)
		}
		want = append(want, i+1)
	}
	if len(told) == many+1 {
		t.Error("all news came at once")
	}
	var got []int
	for range many + 1 {
		got = append(got, <-told)
	}
	if !slices.Equal(got, append([]int{0}, want...)) {
		t.Errorf("told of %v", got)
	}
	stop()
	stop()
	if _, err := registry.Register(discovery.Instance{API: "a", Address: "127.0.0.1:9999"}); err != nil {
		t.Fatal(err)
	}
	if len(told) > 0 {
		t.Error("told after stop")
	}
}

func TestNewsWaitForTheEndOfASilence(t *testing.T) {
	t.Parallel()
	registry := newLateRegistry(0, 0.5)
	defer registry.close()
	const half = silencePeriod / 2
	for into, want := range map[time.Duration]time.Duration{
		0: 0, half - 1: half - 1, half: 2 * half, half + 1: 2 * half, 2*half - 1: 2 * half, 2 * half: 2 * half, 3 * half: 4 * half,
	} {
		t.Run(into.String(), func(t *testing.T) {
			if due := registry.due(registry.began.Add(into)).Sub(registry.began); due != want {
				t.Errorf("news after %v are due after %v, want %v", into, due, want)
			}
		})
	}
}

func TestAnInstanceAnnouncesItsLife(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	registration, err := newAnnouncer(&out).Register(discovery.Instance{API: "a", Address: "127.0.0.1:1", Incarnation: discovery.NewIncarnation()})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(registration.Drain(t.Context()), registration.Close(t.Context())); err != nil {
		t.Error(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if want := []event{registered, draining, closed}[i]; !strings.Contains(line, string(want)) {
			t.Errorf("line %d is %s, want %s", i, line, want)
		}
	}
}
