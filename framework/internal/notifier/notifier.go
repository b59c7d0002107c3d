// Package notifier notifies the observers of a bus or a service.
package notifier

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/recovery"
)

// Notifier notifies observers. It is nil if there are none. Code that runs with each
// call checks that first, because an event is an allocation.
type Notifier struct {
	observers []observe.Observer
	log       *slog.Logger
}

// New returns the notifier of observers, nil if there are none.
func New(log *slog.Logger, observers []observe.Observer) *Notifier {
	if len(observers) == 0 {
		return nil
	}
	return &Notifier{observers: observers, log: log}
}

// Notify notifies the observers of an event. The caller must not hold a lock.
func (n *Notifier) Notify(ctx context.Context, event observe.Event) {
	if n == nil {
		return
	}
	for _, observer := range n.observers {
		n.one(ctx, observer, event)
	}
}

// one notifies one observer. It logs a panic of the observer.
func (n *Notifier) one(ctx context.Context, observer observe.Observer, event observe.Event) {
	defer func() {
		if cause := recover(); cause != nil {
			n.log.ErrorContext(ctx, "an observer panicked", "panic", recovery.Describe(cause), "stack", string(debug.Stack()))
		}
	}()
	observer.Observe(ctx, event)
}

// With returns a notifier that also notifies one more observer, and logs to log.
func (n *Notifier) With(log *slog.Logger, observer observe.Observer) *Notifier {
	if n == nil {
		return New(log, []observe.Observer{observer})
	}
	return New(log, append(slices.Clip(n.observers), observer))
}

// Now returns the time if there are observers, for the durations in their events.
func (n *Notifier) Now() (now time.Time) {
	if n != nil {
		now = time.Now()
	}
	return now
}
