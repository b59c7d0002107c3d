package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestTheTimeOfACallCountsFromWhenItWasToBegin stalls the first of 20 calls for a second, with
// one call in flight. A loop that begins a call after the one before would have one slow call.
func TestTheTimeOfACallCountsFromWhenItWasToBegin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		l := newLoad(10, 2*time.Second, 1, func(context.Context) error {
			if calls.Add(1) == 1 {
				time.Sleep(time.Second)
			}
			return nil
		})
		l.run(t.Context())
		m := l.now()
		if m.planned != 20 || m.begun != 20 || m.took != 1900*time.Millisecond || m.latencies.TotalCount() != 20 {
			t.Errorf("measured %+v", m)
		}
		// The calls of the first second waited for 1 s, 0.9 s, … 0.1 s, and the others not.
		for of, want := range map[float64]float64{50: 0.001, 55: 100, 75: 500, 95: 900, 100: 1000} {
			if got := m.percentile(of); got < want*0.99 || got > want*1.01+0.001 {
				t.Errorf("percentile %v is %v ms, want %v", of, got, want)
			}
		}
		var counted int64
		for i, bar := range bars(m) {
			counted += bar.Calls
			if i > 0 && bar.From*2 != bar.To {
				t.Errorf("a bar from %v to %v", bar.From, bar.To)
			}
		}
		if counted != 20 {
			t.Errorf("the bars have %d calls", counted)
		}
	})
}

// TestCallsThatNeverBeginAreCounted makes calls that take longer than the load.
func TestCallsThatNeverBeginAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		most, flying := atomic.Int64{}, atomic.Int64{}
		l := newLoad(100, time.Second, 3, func(context.Context) error {
			most.Store(max(most.Load(), flying.Add(1)))
			time.Sleep(time.Minute)
			flying.Add(-1)
			return nil
		})
		l.run(t.Context())
		if m := l.now(); m.planned != 100 || m.begun != 3 || most.Load() != 3 {
			t.Errorf("%d planned, %d begun, %d at once", m.planned, m.begun, most.Load())
		}
	})
}

// TestAnInterruptEndsTheLoad ends the context after a second of a minute.
func TestAnInterruptEndsTheLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		l := newLoad(2, time.Minute, 10, func(ctx context.Context) error {
			select {
			case <-time.After(700 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		l.run(ctx)
		if m := l.now(); m.took != time.Second || m.interrupted == 0 || m.begun != m.interrupted+m.outcomes[outcomeKind{"executed", "OK"}] || m.planned-m.begun > 1 {
			t.Errorf("measured %+v", m)
		}
	})
}

// TestOutcomesAreCountedByTheirKind makes calls that end in different ways.
func TestOutcomesAreCountedByTheirKind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		l := newLoad(10, time.Second, 10, func(context.Context) error {
			switch calls.Add(1) % 5 {
			case 1:
				return status.Error(codes.Aborted, "")
			case 2:
				return errors.New("of no call")
			}
			return nil
		})
		l.run(t.Context())
		want := map[outcomeKind]int{{"executed", "OK"}: 6, {"unknown", "ABORTED"}: 2, {"unknown", "UNKNOWN"}: 2}
		for kind, count := range want {
			if got := l.now().outcomes[kind]; got != count {
				t.Errorf("%v: %d, want %d", kind, got, count)
			}
		}
	})
}
