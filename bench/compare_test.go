package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/measure"
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
	for title, of := range map[string]func(context.Context, string, int, int, time.Duration) ([]*measure.Way, error){"compare": compare, "observed": compareServings(observings), "secured": compareServings(securings)} {
		for _, callers := range []int{1, 8} {
			t.Run(fmt.Sprint(title, " with ", callers, " callers"), func(t *testing.T) {
				ways, err := of(t.Context(), os.Args[0], callers, 2, 20*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				for _, way := range ways {
					if len(way.Turns) != 2 {
						t.Errorf("%s has %d turns, want 2", way.Name, len(way.Turns))
					}
					for _, figure := range measure.Figures {
						if got := way.Median(figure.Of); got <= 0 {
							t.Errorf("%s: %s is %v", way.Name, figure.Name, got)
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
