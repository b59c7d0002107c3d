package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestMain lets the test binary run as the servers that compare starts.
func TestMain(m *testing.M) {
	for i, argument := range os.Args {
		if argument == "-serve" {
			if err := (options{serve: os.Args[i+1]}).run(); err != nil {
				panic(err)
			}
			return
		}
	}
	os.Exit(m.Run())
}

func TestEachWayIsMeasured(t *testing.T) {
	for title, measure := range map[string]func(context.Context, string, int, int, time.Duration) ([]*way, error){"compare": compare, "observed": compareServings(observings), "secured": compareServings(securings)} {
		for _, callers := range []int{1, 8} {
			t.Run(fmt.Sprint(title, " with ", callers, " callers"), func(t *testing.T) {
				ways, err := measure(t.Context(), os.Args[0], callers, 2, 20*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				for _, way := range ways {
					if len(way.turns) != 2 {
						t.Errorf("%s has %d turns, want 2", way.name, len(way.turns))
					}
					for _, figure := range figures {
						if got := median(way.turns, figure.of); got <= 0 {
							t.Errorf("%s: %s is %v", way.name, figure.name, got)
						}
					}
				}
			})
		}
	}
}

func TestBadFlagsAreErrors(t *testing.T) {
	for name, flags := range map[string]options{
		"no turns":          {callers: "1", length: time.Millisecond},
		"no time":           {callers: "1", turns: 1},
		"callers no number": {callers: "x", turns: 1, length: time.Millisecond},
		"no callers":        {callers: "0", turns: 1, length: time.Millisecond},
		"unknown server":    {serve: "odd"},
		"no such file":      {gate: "none.json"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := flags.run(); err == nil {
				t.Errorf("run with %+v is no error", flags)
			}
		})
	}
}

func TestMiddleIsTheMedian(t *testing.T) {
	for want, values := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 2, 3}, 7: {7}} {
		t.Run(fmt.Sprint(len(values), " values"), func(t *testing.T) {
			if got := middle(values); got != want {
				t.Errorf("the median of %v is %v, want %v", values, got, want)
			}
		})
	}
}
