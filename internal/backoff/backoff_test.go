package backoff_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onecall-dev/onecall/internal/backoff"
)

func TestDelayStaysBelowADoublingLimit(t *testing.T) {
	t.Parallel()
	policy := backoff.Policy{Base: 100 * time.Millisecond, Max: time.Second}
	limits := map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 5: time.Second, 1 << 20: time.Second,
	}
	for failures, limit := range limits {
		var longest time.Duration
		for range 2000 {
			delay := policy.Delay(failures)
			if delay < 0 || delay > limit {
				t.Fatalf("after %d failures: waits %v, the limit is %v", failures, delay, limit)
			}
			longest = max(longest, delay)
		}
		if longest < limit*9/10 {
			t.Errorf("after %d failures: 2000 waits stay below %v, so jitter does not fill [0, %v]", failures, longest, limit)
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		policy := backoff.Policy{Base: time.Hour, Max: time.Hour}
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		start := time.Now()
		if err := policy.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v, want the context's error", err)
		}
		if waited := time.Since(start); waited > time.Nanosecond {
			t.Errorf("waited %v beyond the context", waited)
		}
	})
}
