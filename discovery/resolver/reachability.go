package resolver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/lograte"
)

// reachability is whether an instance can be connected to. Its methods are safe for
// all goroutines.
type reachability struct {
	address string
	// changed is called when that changes, and recheck when the connection has to be
	// replaced.
	changed, recheck func()
	// note logs a line soon, and reports whether it does: see [notes.add].
	note func(note) bool
	// connection is called with each state of a connection.
	connection func(Connection)
	// attach is [Config].Attach.
	attach func(resolver.Address, discovery.Incarnation, Observer) resolver.Address

	mu sync.Mutex // guards the fields below
	// connected says that there is a connection, and attempted that grpc-go has tried to
	// connect.
	connected, attempted bool
	// since is when the last connection was lost or the first attempt failed; zero while
	// there is a connection, and before the first attempt.
	since time.Time
	// silent says that nothing is answered on the connection, which has to be replaced.
	silent bool
	// avoided is whether a line said that the instance is avoided. Another one
	// follows when the instance is back.
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
			r.note(note{slog.LevelInfo, "an instance is back", r.address, func() []any {
				return []any{"after", now.Sub(was).Round(time.Millisecond)}
			}})
		}
	case connectivity.TransientFailure:
		r.lost(now)
		if cause != nil && !r.avoided {
			r.avoided = r.note(note{slog.LevelWarn, "an instance is avoided", r.address, func() []any { return []any{"error", cause} }})
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
		r.changed()
	}
}

func (r *reachability) lost(now time.Time) {
	r.connected = false
	if r.since.IsZero() {
		r.since = now
	}
}

// unreachable returns since when the instance cannot be connected to; zero if it can, or
// before the first attempt.
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

// Connection is one connection to an instance, as it was last seen.
type Connection struct {
	// ID distinguishes the connections of a resolver, also those to one address.
	ID any
	// Address is the instance's.
	Address string
	// State is its state; READY means that the instance can be called. After
	// SHUTDOWN there is no other.
	State connectivity.State
	// Err is why the state is TRANSIENT_FAILURE.
	Err error
}

// Observer observes the connections to an instance, for package atmostonce's policy.
// Its methods are safe for all goroutines.
type Observer struct{ reachability *reachability }

// Observe records a state of a connection, which id distinguishes from others.
func (o Observer) Observe(id any, state balancer.SubConnState) {
	o.reachability.connection(Connection{ID: id, Address: o.reachability.address, State: state.ConnectivityState, Err: state.ConnectionError})
	o.reachability.observe(state.ConnectivityState, state.ConnectionError)
}

// Silent records that nothing is answered on the connection any more. It will be
// replaced.
func (o Observer) Silent() {
	o.reachability.mu.Lock()
	o.reachability.silent = true
	o.reachability.mu.Unlock()
	o.reachability.recheck()
}

// Refused notes that the instance refuses one call after the other.
func (o Observer) Refused(err error) {
	o.reachability.note(note{slog.LevelWarn, "an instance refuses calls: fewer are sent there", o.reachability.address, func() []any {
		attributes := []any{"code", status.Code(err)}
		if reason := reasonOf(err); reason != "" {
			attributes = append(attributes, "reason", reason)
		}
		return attributes
	}})
}

// reasonOf returns the reason of an error that has one, as google.rpc.ErrorInfo.
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

// note is a line for the log.
type note struct {
	level   slog.Level
	message string
	address string // of the instance that it is about; "" if it is about none
	// more returns the other attributes. It is called if the line is logged.
	more func() []any
}

// Lines limits what resolvers log. Those that share one, such as the resolvers of several
// connections to one API, log each line of an instance once a minute together. The zero
// value is ready to use.
type Lines struct{ limiter lograte.Limiter }

// notes are lines that wait to be logged. The goroutine that adds one may hold locks of
// the registry's or of grpc-go's, and a program's logger may call either.
// Its methods are safe for all goroutines.
type notes struct {
	log   *slog.Logger
	lines *Lines
	api   string
	timer *time.Timer // runs flush

	mu      sync.Mutex // guards the field below
	waiting []func()
}

func newNotes(config Config, api string) *notes {
	n := &notes{log: config.Logger, lines: config.Lines, api: api}
	n.timer = stoppedTimer(n.flush)
	return n
}

// add logs a line soon, and reports whether it does. It does not if the same line
// about the same instance was logged within the last minute.
func (n *notes) add(line note) bool {
	if !n.lines.limiter.Allow(line.message+" "+line.address, 1) {
		return false
	}
	attributes := []any{"api", n.api}
	if line.address != "" {
		attributes = append(attributes, "address", line.address)
	}
	attributes = append(attributes, line.more()...)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting = append(n.waiting, func() { n.log.Log(context.Background(), line.level, line.message, attributes...) })
	n.timer.Reset(0)
	return true
}

// flush logs the lines that wait.
func (n *notes) flush() {
	n.mu.Lock()
	waiting := n.waiting
	n.waiting = nil
	n.mu.Unlock()
	for _, log := range waiting {
		log()
	}
}

func (n *notes) close() { n.timer.Stop() }
