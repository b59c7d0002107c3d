// Package eventually lets tests wait for events, instead of for a time in which an event
// should have happened.
package eventually

import (
	"context"
	"fmt"
	"testing"
	"time"
)

const (
	// Limit ends a wait for an event that never happens. It does not say how long an
	// event may take: no machine is so slow or busy that an event takes this long.
	Limit = 2 * time.Minute
	// AtOnce is how long a function that does not wait may take, also on a slow and busy
	// machine.
	AtOnce = 5 * time.Second

	// pause is the time between two evaluations of a condition.
	pause = 5 * time.Millisecond
)

// True waits until a condition is true, and fails the test after Limit. It evaluates the
// condition again and again, on the test's goroutine.
func True(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for end := time.Now().Add(Limit); !condition(); time.Sleep(pause) {
		if time.Now().After(end) {
			tb.Fatalf("waited %v in vain for this: %s", Limit, what)
		}
	}
}

// Receive receives from a channel, or returns the zero value when it is closed. It fails
// the test after Limit.
func Receive[T any](tb testing.TB, what string, from <-chan T) T {
	tb.Helper()
	limit := time.NewTimer(Limit)
	defer limit.Stop()
	select {
	case value := <-from:
		return value
	case <-limit.C:
		tb.Fatalf("waited %v in vain for this: %s", Limit, what)
		panic("not reached: Fatalf ends the goroutine")
	}
}

// Context returns a context that ends with the test, and after Limit.
func Context(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeoutCause(tb.Context(), Limit, fmt.Errorf("the test waited %v in vain", Limit))
	tb.Cleanup(cancel)
	return ctx
}

// Returns calls a function that does not wait, and reports an error if it took longer
// than AtOnce.
func Returns(tb testing.TB, what string, function func()) {
	tb.Helper()
	began := time.Now()
	function()
	if took := time.Since(began); took > AtOnce {
		tb.Errorf("%s took %v and should wait for nothing", what, took)
	}
}
