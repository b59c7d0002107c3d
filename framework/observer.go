package framework

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"

	"github.com/onecall-dev/onecall/interceptors/recovery"
)

// Observer is notified of what becomes of the calls of a bus or a service, for
// metrics, logs and tests. Option [Observe] sets it.
type Observer interface {
	// Observe is notified of an event after it happened, on the goroutine on
	// which it happened. That is often the goroutine of a call, which waits: it
	// must be fast. It is called from many goroutines at once. The framework holds
	// no lock then, so it may call the bus or the service, except for what waits
	// for calls to end, such as [Bus.Close]. If it panics, the log has the panic and
	// the call goes on.
	//
	// ctx is the context of the call that the event is about, at a service with
	// what [Authenticate] and interceptors before admission put on it. It is
	// [context.Background] for an event that is about no call.
	Observe(ctx context.Context, event Event)
}

// Observe has an observer notified of the events of a service or a bus. If it is
// given several times, each observer is notified, in that order. No event has a
// message, metadata or a secret. Without an observer no event is made, and a call
// costs nothing more.
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

// notifier notifies observers. Without any it is nil. A caller on the path of each
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

// notify notifies the observers of an event. No lock may be held.
func (n *notifier) notify(ctx context.Context, event Event) {
	if n == nil {
		return
	}
	for _, observer := range n.observers {
		n.one(ctx, observer, event)
	}
}

// one notifies one observer, whose panic it logs.
func (n *notifier) one(ctx context.Context, observer Observer, event Event) {
	defer func() {
		if cause := recover(); cause != nil {
			n.log.ErrorContext(ctx, "an observer panicked", "panic", recovery.Describe(cause), "stack", string(debug.Stack()))
		}
	}()
	observer.Observe(ctx, event)
}
