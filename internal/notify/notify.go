// Package notify notifies observers without holding any lock of who notifies
// them, so that an observer may call that.
package notify

import "sync"

// Observer is notified of values. Its methods are safe for all goroutines.
type Observer[T any] struct {
	notify func(T)

	mu sync.Mutex // guards the fields below, and is not held while notify runs
	// ended is signalled when notify no longer runs.
	ended   *sync.Cond
	waiting []T
	running bool
	stopped bool
}

// NewObserver returns an observer that is notified by calls of notify: one at a
// time, in the order of [Observer.Add].
func NewObserver[T any](notify func(T)) *Observer[T] {
	o := &Observer[T]{notify: notify}
	o.ended = sync.NewCond(&o.mu)
	return o
}

// Add has the observer be notified of a value by the next [Observer.Run]. The
// caller may hold locks: those that say in which order values follow each other.
func (o *Observer[T]) Add(value T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.stopped {
		o.waiting = append(o.waiting, value)
	}
}

// Run notifies the observer of all that was added. The caller holds no lock. If
// another Run is at work it returns at once: that one goes on with it. So it is
// when the observer itself causes a change.
func (o *Observer[T]) Run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.running {
		return
	}
	o.running = true
	defer func() { // also when notify panics
		o.running = false
		o.ended.Broadcast()
	}()
	for len(o.waiting) > 0 {
		next := o.waiting[0]
		o.waiting = o.waiting[1:]
		o.call(next)
	}
}

// call calls notify without the lock, which Run holds.
func (o *Observer[T]) call(value T) {
	o.mu.Unlock()
	defer o.mu.Lock()
	o.notify(value)
}

// Stop has the observer not be notified any more. It waits for a call of notify
// that is under way, so notify does not call it.
func (o *Observer[T]) Stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped, o.waiting = true, nil
	for o.running {
		o.ended.Wait()
	}
}
