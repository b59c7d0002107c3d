// Package notify notifies observers while no lock of the notifier is held, so that an
// observer may call the notifier.
package notify

import "sync"

// Observer receives values, one at a time. Its methods are safe for all goroutines.
type Observer[T any] struct {
	notify func(T)

	// mu guards the fields below. It is not held while notify runs. The notifier's lock
	// may be held when it is acquired, and not the other way round.
	mu sync.Mutex
	// ended is signalled when notify no longer runs.
	ended   *sync.Cond
	waiting []T
	running bool
	stopped bool
}

// NewObserver returns an observer whose values are passed to notify, one at a time and in
// the order of [Observer.Add].
func NewObserver[T any](notify func(T)) *Observer[T] {
	o := &Observer[T]{notify: notify}
	o.ended = sync.NewCond(&o.mu)
	return o
}

// Add queues a value for the next [Observer.Run]. The caller may hold a lock that keeps
// the values in order.
func (o *Observer[T]) Add(value T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.stopped {
		o.waiting = append(o.waiting, value)
	}
}

// Run passes all queued values to the observer. The caller must hold no lock. If another
// Run is active, also one that called this observer, Run returns at once, and the other
// Run passes the values.
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

// call calls notify without o.mu, which Run holds.
func (o *Observer[T]) call(value T) {
	o.mu.Unlock()
	defer o.mu.Lock()
	o.notify(value)
}

// Stop returns when notify no longer runs, and will not be called again. Notify must not
// call it.
func (o *Observer[T]) Stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped, o.waiting = true, nil
	for o.running {
		o.ended.Wait()
	}
}
