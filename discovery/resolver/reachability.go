package resolver

import (
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// reachability records whether an instance can be connected to. Its methods are safe for
// all goroutines, and are called without the resolver's lock by grpc-go, and with it by
// the resolver.
type reachability struct {
	address string
	// instances is called without its lock: only config, notes, recheck,
	// silent and connectivityChanged are used.
	instances *instances

	// mu guards the fields below. While it is held only the lock of notes is acquired.
	mu sync.Mutex
	// connected says that there is a connection, and attempted that grpc-go has tried to
	// connect.
	connected, attempted bool
	// since is when the last connection was lost or the first attempt failed; zero while
	// there is a connection, and before the first attempt.
	since time.Time
	// silent says that the connection has to be replaced, because nothing is answered on
	// it.
	silent bool
	// avoided says that a line "an instance is avoided" was logged. A line follows when
	// the instance is back.
	avoided bool
}

// observe records the state of the connection, and why it failed.
func (r *reachability) observe(state connectivity.State, cause error) {
	r.mu.Lock()
	now := time.Now()
	was := r.since
	r.attempted = true
	switch state {
	case connectivity.Ready:
		r.connected, r.since = true, time.Time{}
		if r.avoided {
			r.avoided = false
			r.instances.notes.add(note{slog.LevelInfo, "an instance is back", r.address, func() []any {
				return []any{"after", now.Sub(was).Round(time.Millisecond)}
			}})
		}
	case connectivity.TransientFailure:
		r.lost(now)
		if cause != nil && !r.avoided {
			r.avoided = r.instances.notes.add(note{slog.LevelWarn, "an instance is avoided", r.address, func() []any { return []any{"error", cause} }})
		}
	case connectivity.Idle, connectivity.Connecting:
		if r.connected {
			r.lost(now)
		}
	case connectivity.Shutdown: // it is no longer used
	}
	changed := was.IsZero() != r.since.IsZero()
	r.mu.Unlock()
	if changed {
		r.instances.connectivityChanged()
	}
}

// lost records that there is no connection. r.mu must be held.
func (r *reachability) lost(now time.Time) {
	r.connected = false
	if r.since.IsZero() {
		r.since = now
	}
}

// unreachable returns since when the instance cannot be connected to. It returns zero if
// it can, and before the first attempt.
func (r *reachability) unreachable() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.since
}

// tried reports whether grpc-go has tried to connect.
func (r *reachability) tried() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempted
}

// takeSilent reports, once, whether the connection has to be replaced.
func (r *reachability) takeSilent() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.silent
	r.silent = false
	return was
}

// Connection is the state of one connection to an instance.
type Connection struct {
	// ID distinguishes the connections of a resolver, also those to one address.
	ID any
	// Address is the instance's address.
	Address string
	// State is the state of the connection. READY means that the instance can be called.
	// SHUTDOWN is the last state.
	State connectivity.State
	// Err is why the state is TRANSIENT_FAILURE.
	Err error
}

// Observer observes the connections to an instance, for package atmostonce's policy.
// Its methods are safe for all goroutines.
type Observer struct{ reachability *reachability }

// Observe records a state of a connection, which id distinguishes from others.
func (o Observer) Observe(id any, state balancer.SubConnState) {
	o.reachability.instances.config.Connection(Connection{ID: id, Address: o.reachability.address, State: state.ConnectivityState, Err: state.ConnectionError})
	o.reachability.observe(state.ConnectivityState, state.ConnectionError)
}

// Silent records that nothing is answered on the connection any more, so that it is
// replaced.
func (o Observer) Silent() {
	o.reachability.mu.Lock()
	o.reachability.silent = true
	o.reachability.mu.Unlock()
	o.reachability.instances.silent.Store(true)
	o.reachability.instances.recheck()
}

// Refused logs that the instance refuses one call after the other.
func (o Observer) Refused(err error) {
	o.reachability.instances.notes.add(note{slog.LevelWarn, "an instance refuses calls: fewer are sent there", o.reachability.address, func() []any {
		attributes := []any{"code", status.Code(err)}
		if reason := reasonOf(err); reason != "" {
			attributes = append(attributes, "reason", reason)
		}
		return attributes
	}})
}

// reasonOf returns the reason of a google.rpc.ErrorInfo in an error; "" if there is none.
func reasonOf(err error) string {
	st := status.Convert(err)
	if st.Code() == codes.OK {
		return ""
	}
	for _, detail := range st.Details() {
		if info, ok := detail.(interface{ GetReason() string }); ok {
			return info.GetReason()
		}
	}
	return ""
}
