package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/internal/notify"
)

// outage records whether one service of an API has an instance, as its channels report
// it. It notifies the observers of the bus. Its methods are safe for all goroutines.
type outage struct {
	api *api
	// queue keeps the order of the events, because a resolver holds its lock when it
	// calls observe.
	queue *notify.Observer[observe.Event]

	mu sync.Mutex // guards the fields below
	// cause is why there is no instance, nil if there is one or nothing is known.
	cause error
	began time.Time
	// count is how many outages began.
	count uint64
}

func newOutage(of *api) *outage {
	notifier := of.bus.options.notify
	return &outage{api: of, queue: notify.NewObserver(func(event observe.Event) { notifier.Notify(context.Background(), event) })}
}

// observe records why a channel has no instance, nil if it has one: see
// [resolver.Config]. While that is not known, no outage begins or ends.
func (o *outage) observe(err error) {
	if _, unknown := errors.AsType[*resolver.NoAnswerError](err); unknown || errors.Is(err, resolver.ErrPending) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.cause
	o.cause = err
	switch {
	case before == nil && err != nil:
		o.began = time.Now()
		o.count++
		o.notify(observe.OutageBegan{API: o.api.name, Cause: err})
	case before != nil && err == nil:
		o.notify(observe.OutageEnded{API: o.api.name, Duration: time.Since(o.began)})
	}
}

// notify notifies the observers, on another goroutine. The caller holds o.mu.
func (o *outage) notify(event observe.Event) {
	if o.api.bus.options.notify != nil {
		o.queue.Add(event)
		o.api.checker.Run(o.queue.Run)
	}
}

// now returns why there is no instance, nil if there is one or nothing is known.
func (o *outage) now() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cause
}

// begun returns how many outages have begun.
func (o *outage) begun() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count
}
