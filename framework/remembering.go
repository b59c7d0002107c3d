package framework

import (
	"sync"

	"github.com/onecall-dev/onecall/discovery"
)

// remembering is the registry of one API's connections. Once asked it goes on
// watching: grpc-go lets go of connections that were idle for long, and the
// registry may be out of reach when they are needed again.
type remembering struct {
	discovery.Registry

	mu     sync.Mutex // guards the fields below
	stop   func()     // nil before anybody asked
	closed bool
}

// Watch implements [discovery.Registry].
func (r *remembering) Watch(api string, tell func(discovery.Snapshot)) func() {
	stop := r.Registry.Watch(api, tell)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop == nil && !r.closed {
		r.stop = r.Registry.Watch(api, func(discovery.Snapshot) {})
	}
	return stop
}

// close forgets.
func (r *remembering) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.stop != nil {
		r.stop()
	}
}
