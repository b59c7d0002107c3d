// Package backoff computes the time between attempts.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy is exponential backoff with full jitter: before the attempt after n
// failures it waits a random time between 0 and min(Max, Base·2ⁿ⁻¹), so that
// clients that failed together do not try again together. See "Exponential Backoff And
// Jitter", AWS Architecture Blog, 2015.
type Policy struct {
	// Base is the longest first wait; more than zero.
	Base time.Duration
	// Max is the longest wait; at least Base.
	Max time.Duration
}

// Delay returns the random wait after a number of failures in a row, at least 1.
func (p Policy) Delay(failures int) time.Duration {
	limit := p.Base
	for range failures - 1 {
		if limit >= p.Max/2 {
			limit = p.Max
			break
		}
		limit *= 2
	}
	return rand.N(min(limit, p.Max) + 1)
}

// Wait waits for Delay. If ctx ends first, it returns the context's error.
func (p Policy) Wait(ctx context.Context, failures int) error {
	timer := time.NewTimer(p.Delay(failures))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
