package main

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary run as the service.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestTheExcessIsRefused(t *testing.T) {
	t.Parallel()
	settings := settings{callers: 50, buses: 2, most: 5, work: 10 * time.Millisecond, wait: 20 * time.Millisecond, length: time.Second, memory: 400, connections: 20}
	result, err := overload(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.overload.refused) == 0 || len(result.overload.good) == 0 || len(result.overload.other) > 0 || result.service.Highest > 5 || result.service.Shed == 0 {
		t.Errorf("result =\n%s%v", result, result.overload.other)
	}
}

func TestAResultIsJudged(t *testing.T) {
	t.Parallel()
	sound := func() *result {
		return &result{
			settings: settings{callers: 500, most: 10, memory: 100, connections: 3000},
			capacity: calls{length: time.Second, good: make([]time.Duration, 100)},
			overload: calls{length: time.Second, good: make([]time.Duration, 80), refused: make([]time.Duration, 1000)},
			crowded:  calls{length: time.Second, good: make([]time.Duration, 100)},
			crowd:    &crowd{answered: 2000, refused: 1000},
			service:  report{Ran: 280, Highest: 10, Shed: 4000, Memory: 100 * mebibyte},
		}
	}
	if err := sound().err(); err != nil {
		t.Errorf("a sound result: %v", err)
	}
	for want, spoil := range map[string]func(*result){
		"79 % of the capacity":       func(r *result) { r.overload.good = r.overload.good[1:] },
		"78 % of the capacity":       func(r *result) { r.overload.late = 2 },
		"served beside a crowd":      func(r *result) { r.crowded.good = r.crowded.good[:79] },
		"2001 were served":           func(r *result) { r.crowd.answered, r.crowd.refused = 2001, 999 },
		"1999 were served and 1000":  func(r *result) { r.crowd.answered-- },
		"1 calls failed otherwise":   func(r *result) { r.overload.other = []error{errors.New("x")} },
		"no call was refused":        func(r *result) { r.overload.refused = nil },
		"half of the refusals took":  func(r *result) { r.overload.refused = []time.Duration{time.Second} },
		"11 handlers ran at once":    func(r *result) { r.service.Highest = 11 },
		"279 handlers ran for 280":   func(r *result) { r.service.Ran = 279 },
		"the service needed 101 MiB": func(r *result) { r.service.Memory += mebibyte },
		"NaN % of the capacity":      func(r *result) { r.capacity.good, r.overload.good = nil, nil },
	} {
		t.Run(want, func(t *testing.T) {
			spoilt := sound()
			spoil(spoilt)
			if err := spoilt.err(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("err = %v, want %q", err, want)
			}
		})
	}
	for _, want := range []string{"goodput                  80 calls a second: 80 % of the capacity\n", "refused calls            1000 a second\n"} {
		if !strings.Contains(sound().String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, sound())
		}
	}
}
