// Package eventually waits, in tests, for events: never for a time in which an
// event is hoped for.
package eventually

import (
	"context"
	"fmt"
	"testing"
	"time"
)

const (
	// Limit ends a wait for what never happens. It is no bound on how long the
	// event may take: no machine is so slow or so busy that it takes this long.
	Limit = 2 * time.Minute
	// AtOnce bounds what waits for nothing: far more than that takes on a slow and
	// busy machine.
	AtOnce = 5 * time.Second

	// pause is between two looks at a condition.
	pause = 5 * time.Millisecond
)

// True waits until a condition is true, and ends the test when Limit passes before
// that. The condition is called again and again, on the test's goroutine.
func True(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for end := time.Now().Add(Limit); !condition(); time.Sleep(pause) {
		if time.Now().After(end) {
			tb.Fatalf("waited %v in vain for this: %s", Limit, what)
		}
	}
}

// Receive receives from a channel, or returns the zero value once it is closed, and
// ends the test when Limit passes before that.
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

// Returns calls a function that waits for nothing, and reports a failure when it has
// taken longer than AtOnce.
func Returns(tb testing.TB, what string, function func()) {
	tb.Helper()
	began := time.Now()
	function()
	if took := time.Since(began); took > AtOnce {
		tb.Errorf("%s took %v and should wait for nothing", what, took)
	}
}
