package client

import (
	"context"
	"time"
)

// timed is the end of an attempt that has a deadline, as a context to wait for. It is made
// when something waits for it. Over a link mostly nothing does.
type timed struct {
	ctx    context.Context //nolint:containedctx // it is the end of one
	cancel context.CancelFunc
}

// over is the end of an attempt for which nothing waited before [Attempt.End].
var over = func() *timed {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return &timed{ctx, cancel}
}()

// Limit sets the deadline of the attempt, as [context.WithDeadline] does, until
// [Attempt.End]. Call it once, before the attempt is sent.
func (a *Attempt) Limit(deadline time.Time) {
	a.limited, a.limit = true, deadline.Sub(a.made)
}

// Deadline implements [context.Context].
func (a *Attempt) Deadline() (deadline time.Time, ok bool) {
	deadline, ok = a.Context.Deadline()
	if !a.limited {
		return deadline, ok
	}
	if limit := a.made.Add(a.limit); !ok || limit.Before(deadline) {
		deadline = limit
	}
	return deadline, true
}

// Done implements [context.Context].
func (a *Attempt) Done() <-chan struct{} { return a.waitable().Done() }

// Err implements [context.Context].
func (a *Attempt) Err() error {
	if a.limited && a.timed.Load() == nil && a.Context.Err() == nil && time.Now().Before(a.made.Add(a.limit)) {
		return nil
	}
	return a.waitable().Err()
}

// waitable returns a context that ends with the attempt's.
func (a *Attempt) waitable() context.Context {
	if !a.limited {
		return a.Context
	}
	if a.timed.Load() == nil {
		ctx, cancel := context.WithDeadline(a.Context, a.made.Add(a.limit))
		if !a.timed.CompareAndSwap(nil, &timed{ctx, cancel}) {
			cancel()
		}
	}
	return a.timed.Load().ctx
}

// endLimit ends the context of an attempt with a deadline.
func (a *Attempt) endLimit() {
	if a.limited && !a.timed.CompareAndSwap(nil, over) {
		a.timed.Load().cancel()
	}
}

// bounds returns what ends a call with ctx: a context and, if it is not the zero value, a
// deadline. For the context of the attempt itself, nothing needs to be made to wait for.
func (a *Attempt) bounds(ctx context.Context) (context.Context, time.Time) {
	if ctx != context.Context(a) || !a.limited {
		return ctx, time.Time{}
	}
	return a.Context, a.made.Add(a.limit)
}
