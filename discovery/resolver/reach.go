package resolver

import (
	"sync"
	"time"

	"google.golang.org/grpc/connectivity"
)

// reach is whether an instance can be connected to. Its methods are safe for
// all goroutines.
type reach struct {
	// changed is called when that changes.
	changed func()

	mu sync.Mutex // guards the fields below
	// connected is whether there is a connection, and attempted whether there
	// was ever to be one.
	connected, attempted bool
	// since is when the last connection was lost or the first attempt failed;
	// zero while there is a connection and before anybody tried.
	since time.Time
}

// observe takes in the state of the connection.
func (r *reach) observe(state connectivity.State) {
	r.mu.Lock()
	was := r.since.IsZero()
	r.attempted = true
	switch state {
	case connectivity.Ready:
		r.connected, r.since = true, time.Time{}
	case connectivity.TransientFailure:
		r.lost()
	case connectivity.Idle, connectivity.Connecting:
		if r.connected {
			r.lost()
		}
	case connectivity.Shutdown: // nobody wants it any more
	}
	changed := was != r.since.IsZero()
	r.mu.Unlock()
	if changed {
		r.changed()
	}
}

func (r *reach) lost() {
	r.connected = false
	if r.since.IsZero() {
		r.since = time.Now()
	}
}

// unreachable gives since when the instance can't be connected to; zero when
// it can, or when nobody tried.
func (r *reach) unreachable() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.since
}

// tried tells whether there was ever to be a connection.
func (r *reach) tried() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempted
}
