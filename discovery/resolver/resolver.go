// Package resolver gives grpc-go the instances that a discovery.Registry knows.
//
// It does no I/O and starts no goroutine but for timers: the registry's watch
// calls it. So Build, which grpc-go runs inside a call before it looks at the
// deadline, and Close return at once in every state of the registry.
//
// An instance is in use from when the registry tells of it until it drains or
// the registry tells that it is gone. But when most of an API's instances go
// within [VanishWindow] without having drained, it is more likely that the
// registry lost them than that they ended: then those that can be connected to
// stay in use until they are back, or until they can't be for [Grace].
package resolver

import (
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
)

// Scheme is the scheme of targets: "onecall:///auth".
const Scheme = "onecall"

const (
	// VanishWindow is the time within which instances count as gone at once.
	VanishWindow = 30 * time.Second
	// Grace is how long an instance that vanished may be unreachable before it
	// is gone for good.
	Grace = 10 * time.Second
	// Flap is how long an instance may be unreachable when it vanishes, and still
	// be taken for one that the registry lost.
	Flap = time.Second
)

// Target gives the target that the builder resolves to an API's instances.
func Target(api string) string { return Scheme + ":///" + api }

// Config says which instances connections use, and who is told. The zero value
// uses all.
type Config struct {
	// Observe is told why a connection has no instance, nil when it has one: a
	// *[NoAnswerError] from Build on and again after Close, else an error of
	// discovery's or of Accept. It is told before the connection is, so that a
	// call that fails finds the reason; but that the last instance is gone it is
	// told after, so that no new call goes to one then. It is quick and calls
	// neither.
	Observe func(problem error)
	// Zone is the one whose instances are preferred: others are in use only
	// while none of the zone can be connected to. Empty prefers none.
	Zone string
	// Accept tells why an instance must not be used, nil when it may, and
	// [ErrPending] while that is being found out. It is quick; again, which may be
	// called at any time and from any goroutine but Accept's, has it asked anew.
	// Nil accepts all.
	Accept func(instance discovery.Instance, again func()) error
	// Connection is called with each state of each connection. It is quick and
	// calls nothing of grpc-go's. Nil is not called.
	Connection func(Connection)
	// Logger gets a line when the registry lost an API's instances, and when an
	// instance is gone, is avoided, refuses calls, or is back; nil is
	// [slog.Default].
	Logger *slog.Logger
	// Lines are those of the Logger, for builders of one API to share; nil has the
	// builder's own.
	Lines *Lines
}

// Builder builds resolvers for connections to APIs. Its methods are safe for
// all goroutines.
type Builder struct {
	source Source
	config Config
}

var _ resolver.Builder = (*Builder)(nil)

// Source is where a resolver gets the instances of an API: a discovery.Registry, or
// what shares one watch of it. Watch is as of [discovery.Registry].
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
	r := &watched{
		config: b.config,
		api:    target.Endpoint(),
		conn:   conn,
		notes:  newNotes(b.config, target.Endpoint()),
	}
	r.instances = newInstances(b.config, r.notes)
	r.instances.again = r.lookAgain
	r.later = stoppedTimer(r.look)
	r.now = stoppedTimer(r.look)
	b.config.Observe(NewNoAnswerError(r.api))
	r.stop = b.source.Watch(r.api, r.tell)
	return r, nil
}

func stoppedTimer(f func()) *time.Timer {
	timer := time.AfterFunc(time.Hour, f)
	timer.Stop()
	return timer
}

// watched is the resolver of one connection.
type watched struct {
	config Config
	api    string
	conn   resolver.ClientConn
	stop   func()
	// later looks at the instances again when one that is kept may go, and now
	// at once.
	later, now *time.Timer
	notes      *notes

	// mu guards the fields below, and is held while the connection is told, so
	// that it is told in order.
	mu        sync.Mutex
	closed    bool
	instances *instances
	// told is what the connection was told last.
	told toldOf
}

// toldOf is what a connection was told.
type toldOf int

const (
	toldNothing toldOf = iota
	toldEndpoints
	toldNone
	toldError
)

// tell is told by the registry.
func (r *watched) tell(snapshot discovery.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.instances.take(snapshot, time.Now())
	r.update()
}

// look looks at what is known again.
func (r *watched) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && r.instances.known() {
		r.update()
	}
}

// lookAgain has a goroutine look: who calls it may be at work for the
// connection, which look waits for.
func (r *watched) lookAgain() { r.now.Reset(0) }

// update tells the connection which instances to use, if they changed; without
// any it learns why, and keeps what it has if it is only the registry that
// can't be reached. r.mu is held.
func (r *watched) update() {
	found := r.instances.use(time.Now())
	if found.next > 0 {
		r.later.Reset(found.next)
	}
	lost := r.told == toldEndpoints && found.problem != nil
	if !lost {
		r.config.Observe(found.problem)
	}
	if found.pending && r.told == toldNothing {
		return // calls wait
	}
	kind := toldEndpoints
	if found.problem != nil {
		kind = toldNone
	}
	switch {
	case found.problem != nil && found.unreachable && !lost:
		kind = toldError
		r.conn.ReportError(found.problem)
	case found.changed || kind != r.told:
		// The error says that the balancer has no endpoint. There is nothing to
		// resolve anew for it: the watch goes on.
		_ = r.conn.UpdateState(resolver.State{Endpoints: found.endpoints})
	}
	if lost {
		r.config.Observe(found.problem)
	}
	r.told = kind
}

// ResolveNow implements [resolver.Resolver]: the watch is always up to date.
func (*watched) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver].
func (r *watched) Close() {
	r.stop()
	r.later.Stop()
	r.now.Stop()
	r.notes.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.config.Observe(NewNoAnswerError(r.api))
}

type incarnationKey struct{}

// IncarnationOf gives the incarnation at an address of this resolver; zero when
// there is none, and of other addresses.
func IncarnationOf(address resolver.Address) discovery.Incarnation {
	incarnation, _ := address.Attributes.Value(incarnationKey{}).(discovery.Incarnation)
	return incarnation
}

type instanceKey struct{}

// InstanceOf gives the instance that an endpoint of this resolver stands for.
func InstanceOf(endpoint resolver.Endpoint) (discovery.Instance, bool) {
	instance, ok := endpoint.Attributes.Value(instanceKey{}).(*discovery.Instance)
	if !ok {
		return discovery.Instance{}, false
	}
	return *instance, true
}

type renewalsKey struct{}

type reachKey struct{}

// ObserverOf returns the observer of a new connection to an address of this
// resolver, nil of other addresses.
func ObserverOf(address resolver.Address) *Observer {
	reached, ok := address.Attributes.Value(reachKey{}).(*reach)
	if !ok {
		return nil
	}
	return &Observer{reach: reached}
}

// endpointOf gives the endpoint of an instance. Its incarnation is part of what
// makes its address one: who took over an address is another, with a connection
// of its own; so is one that is renewed. Nothing of it says what name a caller
// checks in a certificate.
func endpointOf(instance *discovery.Instance, reached *reach, renewals int) resolver.Endpoint {
	address := resolver.Address{Addr: instance.Address, Attributes: attributes.New(reachKey{}, reached)}
	if !instance.Incarnation.IsZero() {
		address.Attributes = address.Attributes.WithValue(incarnationKey{}, instance.Incarnation)
	}
	if renewals > 0 {
		address.Attributes = address.Attributes.WithValue(renewalsKey{}, renewals)
	}
	return resolver.Endpoint{
		Addresses:  []resolver.Address{address},
		Attributes: attributes.New(instanceKey{}, instance),
	}
}
