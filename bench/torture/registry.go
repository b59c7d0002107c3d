package main

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
)

// lateRegistry is a registry that reports changes late, in their order, and reports
// nothing for a share of the time.
type lateRegistry struct {
	*memory.Registry

	late    time.Duration
	silent  float64
	began   time.Time
	end     chan struct{}
	running sync.WaitGroup
	// sockets are the paths of the sockets that were registered last, by address.
	sockets sync.Map
}

var _ discovery.Registry = (*lateRegistry)(nil)

// silencePeriod is the time from the start of one silence to the next.
const silencePeriod = 4 * time.Second

// newLateRegistry returns a registry that delays each change by up to late, and those in
// a silence until its end. A silence is a share of each period.
func newLateRegistry(late time.Duration, silent float64) *lateRegistry {
	return &lateRegistry{Registry: memory.New(), late: late, silent: silent, began: time.Now(), end: make(chan struct{})}
}

// Register implements [discovery.Registry].
func (r *lateRegistry) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	for _, instance := range instances {
		if instance.Socket.Path != "" {
			r.sockets.Store(instance.Address, instance.Socket.Path)
		}
	}
	return r.Registry.Register(instances...)
}

// due returns when a change that happens now is reported.
func (r *lateRegistry) due(now time.Time) time.Time {
	silent := time.Duration(r.silent * float64(silencePeriod))
	// The period begins without silence, so that callers see all instances once.
	into := now.Sub(r.began)%silencePeriod - (silencePeriod - silent)
	if into >= 0 {
		now = now.Add(silent - into)
	}
	return now.Add(rand.N(r.late + 1))
}

// close ends all watches and waits for them.
func (r *lateRegistry) close() {
	close(r.end)
	r.running.Wait()
}

// Watch implements [discovery.Registry].
func (r *lateRegistry) Watch(api string, observer func(discovery.Snapshot)) func() {
	w := &watch{observer: observer, end: make(chan struct{}), more: make(chan struct{}, 1)}
	stop := r.Registry.Watch(api, func(snapshot discovery.Snapshot) {
		w.queue(snapshot, r.due(time.Now()))
	})
	r.running.Go(func() { w.run(r.end) })
	return func() {
		stop()
		w.stop()
	}
}

// watch holds the changes for one observer until they are due.
type watch struct {
	observer func(discovery.Snapshot)
	end      chan struct{}
	more     chan struct{}

	mu      sync.Mutex // guards the field below
	pending []lateNewsItem

	// notifying is held while the observer is called, and guards stopped. No other lock
	// is held with it.
	notifying sync.Mutex
	stopped   bool
}

type lateNewsItem struct {
	snapshot discovery.Snapshot
	due      time.Time
}

func (w *watch) queue(snapshot discovery.Snapshot, due time.Time) {
	w.mu.Lock()
	w.pending = append(w.pending, lateNewsItem{snapshot: snapshot, due: due})
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// next removes and returns the oldest pending change.
func (w *watch) next() (lateNewsItem, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		return lateNewsItem{}, false
	}
	oldest := w.pending[0]
	w.pending = w.pending[1:]
	return oldest, true
}

func (w *watch) run(end <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		oldest, ok := w.next()
		wake := w.more
		if ok {
			wake = nil
			timer.Reset(time.Until(oldest.due))
		}
		select {
		case <-wake:
			continue
		case <-w.end:
			return
		case <-end:
			return
		case <-timer.C:
		}
		if ok {
			w.notify(oldest.snapshot)
		}
	}
}

func (w *watch) notify(snapshot discovery.Snapshot) {
	w.notifying.Lock()
	defer w.notifying.Unlock()
	if !w.stopped {
		w.observer(snapshot)
	}
}

// stop ends the watch. The observer is not called again.
func (w *watch) stop() {
	w.notifying.Lock()
	defer w.notifying.Unlock()
	if !w.stopped {
		w.stopped = true
		close(w.end)
	}
}
