// Package resolver resolves the names of APIs, for grpc-go, to the instances that a
// discovery.Registry has.
//
// It does no I/O, and starts no goroutine except for timers: the registry's watch
// calls it. So Build and Close return at once in every state of the registry. grpc-go
// calls Build inside a call, before it looks at the deadline.
//
// An instance is in use from when the registry reports it until it drains or the
// registry reports that it is gone. If most of an API's instances vanish within
// [VanishWindow] without having drained, the registry has probably lost them. Then
// those that can be connected to stay in use until they are back, or until they have
// been unreachable for [Grace].
package resolver

import (
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/instanceset"
)

// Scheme is the scheme of targets: "onecall:///auth".
const Scheme = "onecall"

const (
	// VanishWindow is the time within which instances count as vanished together.
	VanishWindow = 30 * time.Second
	// Grace is how long an instance that vanished may be unreachable before it is no
	// longer used.
	Grace = 10 * time.Second
	// Flap is how long an instance may have been unreachable when it vanishes, and still
	// count as one that the registry has lost.
	Flap = time.Second
)

// Target returns the target that the builder resolves to an API's instances.
func Target(api string) string { return Scheme + ":///" + api }

// Config says which instances connections use. The zero value uses all. The functions
// must return quickly and must call neither the registry nor grpc-go, whose locks may be
// held.
type Config struct {
	// Observe is called with the reason why a connection has no instance, or with nil if
	// it has one. The reason is a *[NoAnswerError] from Build on and again after Close,
	// else an error of package discovery or of Accept. Observe is called before grpc-go
	// is updated, so that a call that fails finds the reason. Only when the last instance
	// is gone is it called after that, so that no later call can be sent to an instance.
	Observe func(unavailable error)
	// Zone is the zone whose instances are preferred: others are in use only while none
	// of the zone can be connected to. Empty prefers none.
	Zone string
	// Accept returns why an instance must not be used, nil if it may be, and
	// [ErrPending] while that is unknown. Calling recheck calls Accept again; it may be
	// called at any time and from any goroutine, except inside of Accept. Nil accepts
	// all instances.
	Accept func(instance discovery.Instance, recheck func()) error
	// Connection is called with each state of each connection, unless it is nil.
	Connection func(Connection)
	// Attach returns an address with what the load-balancing policy and the dialer need of
	// the instance, in attributes. It returns equal addresses for equal arguments. Nil
	// attaches nothing.
	Attach func(resolver.Address, discovery.Instance, Observer) resolver.Address
	// Logger receives a line when the registry has lost an API's instances, and when an
	// instance is gone, is avoided, refuses calls, or is back; nil is [slog.Default].
	Logger *slog.Logger
	// Lines limits the lines of the Logger. Builders of one API may share it. Nil is one
	// for this builder.
	Lines *Lines
}

// Builder builds resolvers for connections to APIs. Its methods are safe for
// all goroutines.
type Builder struct {
	source Source
	config Config
}

var _ resolver.Builder = (*Builder)(nil)

// Source provides the instances of an API. It is a [discovery.Registry], or shares one
// watch of it.
type Source interface {
	Watch(api string, observer func(discovery.Snapshot)) (stop func())
}

// NewBuilder returns a builder that watches source.
func NewBuilder(source Source, config Config) *Builder {
	if config.Observe == nil {
		config.Observe = func(error) {}
	}
	if config.Accept == nil {
		config.Accept = func(discovery.Instance, func()) error { return nil }
	}
	if config.Attach == nil {
		config.Attach = func(address resolver.Address, _ discovery.Instance, _ Observer) resolver.Address { return address }
	}
	if config.Connection == nil {
		config.Connection = func(Connection) {}
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Lines == nil {
		config.Lines = new(Lines)
	}
	return &Builder{source: source, config: config}
}

// Scheme implements [resolver.Builder].
func (b *Builder) Scheme() string { return Scheme }

// Build implements [resolver.Builder]. It never fails.
func (b *Builder) Build(target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	r := &apiResolver{
		config: b.config,
		api:    target.Endpoint(),
		conn:   conn,
		notes:  newNotes(b.config, target.Endpoint()),
	}
	r.instances = newInstances(b.config, r.notes)
	r.instances.recheck = r.scheduleUpdate
	r.later = stoppedTimer(r.update)
	r.now = stoppedTimer(r.update)
	b.config.Observe(NewNoAnswerError(r.api))
	r.stop = instanceset.Watch(b.source, r.api, r.receive)
	return r, nil
}

func stoppedTimer(f func()) *time.Timer {
	timer := time.AfterFunc(time.Hour, f)
	timer.Stop()
	return timer
}

// apiResolver is the resolver of one connection.
type apiResolver struct {
	config Config
	api    string
	conn   resolver.ClientConn
	stop   func()
	// later calls update when an instance that is retained may have to go, and now calls
	// it at once.
	later, now *time.Timer
	notes      *notes

	// mu guards the fields below. It is held while grpc-go is updated, so that the
	// updates are in order, and while Config's functions are called. The registry's locks
	// may be held when it is acquired, and not the other way round. While it is held, the
	// locks of grpc-go, of each reachability and of notes may be acquired, in this order.
	mu        sync.Mutex
	closed    bool
	instances *instances
	reported  reported
}

// reported is what was reported to grpc-go last.
type reported int

const (
	reportedNothing reported = iota
	reportedEndpoints
	reportedNone
	reportedError
)

// receive is called by the registry's watch.
func (r *apiResolver) receive(view *instanceset.View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.instances.applyView(view, time.Now())
	r.report()
}

// update selects the instances again and reports them.
func (r *apiResolver) update() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && r.instances.latest != nil {
		r.report()
	}
}

// scheduleUpdate calls update on another goroutine, because its caller may hold a lock
// of grpc-go's that update needs.
func (r *apiResolver) scheduleUpdate() { r.now.Reset(0) }

// report reports to grpc-go which instances to use, if they have changed. Without any it
// reports the reason. If the reason is only that the registry cannot be reached, grpc-go
// keeps the instances that it has. r.mu must be held.
func (r *apiResolver) report() {
	selected := r.instances.selectEndpoints(time.Now())
	if selected.next > 0 {
		r.later.Reset(selected.next)
	}
	lost := r.reported == reportedEndpoints && selected.unavailable != nil
	if !lost {
		r.config.Observe(selected.unavailable)
	}
	if selected.pending && r.reported == reportedNothing {
		return // calls wait
	}
	kind := reportedEndpoints
	if selected.unavailable != nil {
		kind = reportedNone
	}
	switch {
	case selected.unavailable != nil && selected.unreachable && !lost:
		kind = reportedError
		r.conn.ReportError(selected.unavailable)
	case selected.changed || kind != r.reported:
		// The error says that the balancer has no endpoint. Resolving again would not
		// help: the watch goes on.
		_ = r.conn.UpdateState(resolver.State{Endpoints: selected.endpoints})
	}
	if lost {
		r.config.Observe(selected.unavailable)
	}
	r.reported = kind
}

// ResolveNow implements [resolver.Resolver]: the watch is always up to date.
func (*apiResolver) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver].
func (r *apiResolver) Close() {
	r.stop()
	r.later.Stop()
	r.now.Stop()
	r.notes.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.config.Observe(NewNoAnswerError(r.api))
}
