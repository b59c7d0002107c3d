package client

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/internal/instanceset"
	"github.com/onecall-dev/onecall/internal/notify"
)

// watch is the only watch of a bus for an API in the registry. It keeps the latest
// view, and notifies the resolvers of the API's channels. It begins when a snapshot
// is first needed, and ends at close. It does not end with a resolver: grpc-go closes
// the resolver of an idle channel, and the registry may be unavailable when the channel
// is used again. Its methods are safe for all goroutines.
type watch struct {
	registry discovery.Registry
	api      string
	begin    sync.Once
	// stop ends the registry's watch. It is nil if the watch was never begun. begin
	// orders its uses.
	stop func()
	// latest is the last view, nil before the first. It is written under mu.
	latest atomic.Pointer[instanceset.View]

	mu        sync.Mutex    // guards the fields below
	changed   chan struct{} // closed at the next view
	observers map[*notify.Observer[*instanceset.View]]struct{}
}

var _ resolver.Source = (*watch)(nil)

func newWatch(registry discovery.Registry, api string) *watch {
	return &watch{
		registry: registry, api: api, changed: make(chan struct{}),
		observers: make(map[*notify.Observer[*instanceset.View]]struct{}),
	}
}

// Watch implements [resolver.Source].
func (w *watch) Watch(api string, observer func(discovery.Snapshot)) (stop func()) {
	return w.WatchViews(api, func(view *instanceset.View) { observer(view.Snapshot()) })
}

// WatchViews is Watch without a copy of the instances: see [instanceset.Source].
func (w *watch) WatchViews(_ string, observer func(*instanceset.View)) (stop func()) {
	w.start()
	added := notify.NewObserver(observer)
	w.mu.Lock()
	w.observers[added] = struct{}{}
	if latest := w.latest.Load(); latest != nil {
		added.Add(latest)
	}
	w.mu.Unlock()
	added.Run()
	return func() {
		w.mu.Lock()
		delete(w.observers, added)
		w.mu.Unlock()
		added.Stop()
	}
}

// start begins the watch, unless close was called before. It holds no lock, because the
// registry may call set before Watch returns.
func (w *watch) start() {
	w.begin.Do(func() { w.stop = instanceset.Watch(w.registry, w.api, w.set) })
}

// set sets the latest view. The registry calls it.
func (w *watch) set(view *instanceset.View) {
	w.mu.Lock()
	w.latest.Store(view)
	close(w.changed)
	w.changed = make(chan struct{})
	observers := slices.Collect(maps.Keys(w.observers))
	for _, observer := range observers {
		observer.Add(view)
	}
	w.mu.Unlock()
	for _, observer := range observers {
		observer.Run()
	}
}

// wait returns the first snapshot for which enough returns true. If ctx ends first, its
// error says why there is no instance.
func (w *watch) wait(ctx context.Context, enough func(discovery.Snapshot) bool) (discovery.Snapshot, error) {
	w.start()
	for {
		w.mu.Lock()
		latest, changed := w.latest.Load(), w.changed
		w.mu.Unlock()
		var snapshot discovery.Snapshot
		if latest != nil {
			if snapshot = latest.Snapshot(); enough(snapshot) {
				return snapshot, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if latest != nil {
				return snapshot, snapshot.Err()
			}
			return discovery.Snapshot{}, resolver.NewNoAnswerError(w.api)
		}
	}
}

// close ends the watch.
func (w *watch) close() {
	w.begin.Do(func() {}) // from now on start does nothing
	if w.stop != nil {
		w.stop()
	}
}
