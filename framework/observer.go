package framework

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"

	"github.com/onecall-dev/onecall/interceptors/recovery"
)

// Observer is notified of the events of a bus or a service, for metrics, logs and tests.
// Option [Observe] sets it.
type Observer interface {
	// Observe is called after an event, on the goroutine of the event. This is often
	// the goroutine of a call, which waits, so Observe must be fast. It is called from
	// many goroutines at once. The framework holds no lock then: Observe may call
	// methods of the bus or the service, except methods that wait for the end of
	// calls, such as [Bus.Close]. If it panics, the panic is logged and the call goes
	// on.
	//
	// ctx is the context of the event's call. At a service it has the values that
	// [Authenticate] and interceptors before admission set. For an event without a
	// call it is [context.Background].
	Observe(ctx context.Context, event Event)
}

// Observe sets an observer of the events of a service or a bus. If the option is set
// several times, all observers are notified, in the order of the options. Events have
// no messages, metadata or secrets. Without an observer no event is made, and calls
// have no additional cost.
func Observe(observer Observer) Option {
	check := func() error {
		if observer == nil {
			return errors.New("option Observe: the observer is nil: leave the option out")
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *serveOptions) error {
			o.observers = append(o.observers, observer)
			return check()
		},
		busOption: func(o *busOptions) error {
			o.observers = append(o.observers, observer)
			return check()
		},
	}
}

// notifier notifies observers. It is nil if there are none. Code that runs with each
// call checks that first, because an event is an allocation.
type notifier struct {
	observers []Observer
	log       *slog.Logger
}

// newNotifier returns the notifier of observers, nil if there are none.
func newNotifier(log *slog.Logger, observers []Observer) *notifier {
	if len(observers) == 0 {
		return nil
	}
	return &notifier{observers: observers, log: log}
}

// notify notifies the observers of an event. The caller must not hold a lock.
func (n *notifier) notify(ctx context.Context, event Event) {
	if n == nil {
		return
	}
	for _, observer := range n.observers {
		n.one(ctx, observer, event)
	}
}

// one notifies one observer. It logs a panic of the observer.
func (n *notifier) one(ctx context.Context, observer Observer, event Event) {
	defer func() {
		if cause := recover(); cause != nil {
			n.log.ErrorContext(ctx, "an observer panicked", "panic", recovery.Describe(cause), "stack", string(debug.Stack()))
		}
	}()
	observer.Observe(ctx, event)
}
