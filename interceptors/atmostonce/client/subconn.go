package client

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// boundSubConn is a connection to an address. The child is notified that it is READY
// once the instance at the other end is known: see [watch].
type boundSubConn struct {
	balancer.SubConn

	policy     *policy
	address    string
	registered discovery.Incarnation // the incarnation that the registry has for the address
	observer   Observer              // nil if the address has none
	channel    *Channel              // nil if no link is looked for
	// listener is the child's, for states.
	listener func(balancer.SubConnState)

	// incarnation is that of the instance to which calls are bound; nil while it is
	// not known, and zero if the instance knows nothing of identities.
	incarnation atomic.Pointer[discovery.Incarnation]
	// link is that of the current transport if its other end is in this process. It is
	// written under mu.
	link atomic.Pointer[link]
	// settles is whether the instance answers what became of calls that are bound to
	// other instances.
	settles atomic.Bool
	// lacking has the methods that the instance lacks, by gRPC's path, and until when
	// each counts as lacking. The map is replaced, never changed.
	lacking atomic.Pointer[map[string]time.Time]
	// alive is set when anything was answered on the connection.
	alive   atomic.Bool
	penalty penalty

	mu sync.Mutex // guards the fields below
	// watch is that of the current transport; nil while there is none.
	watch *watch
	// announced is whether the child was notified that the connection is READY.
	announced bool
	// delivering is whether deliver runs, and calls the child.
	delivering bool
	// health is the last state that the instance reported of itself.
	health balancer.SubConnState
	// healthListener is the child's, if it has registered one since READY.
	healthListener func(balancer.SubConnState)
	// learned is the incarnation that refused a call which was bound to another.
	learned discovery.Incarnation
}

// addressOf returns the address; "" if c is nil.
func (c *boundSubConn) addressOf() string {
	if c == nil {
		return ""
	}
	return c.address
}

// changed is grpc-go's state listener. It runs in grpc-go's serializer.
func (c *boundSubConn) changed(state balancer.SubConnState) {
	c.mu.Lock()
	c.announced, c.healthListener, c.watch = false, nil, nil
	c.useLink(nil, false)
	c.mu.Unlock()
	if state.ConnectivityState == connectivity.Ready {
		c.GetOrBuildProducer((*watchBuilder)(c)) // grpc-go closes it with the connection
		return
	}
	c.incarnation.Store(nil) // another process may answer next
	c.settles.Store(false)
	c.lacking.Store(nil)
	c.penalty.release()
	c.observe(state)
	c.notifyChild(state)
	if state.ConnectivityState == connectivity.Shutdown {
		c.policy.remove(c)
	}
}

// notifyChild calls the child's listener for states.
func (c *boundSubConn) notifyChild(state balancer.SubConnState) {
	if c.listener != nil {
		c.listener(state)
		return
	}
	c.policy.child.UpdateSubConnState(c, state) //nolint:staticcheck // a child that sets no listener relies on it
}

// observe notifies the observer.
func (c *boundSubConn) observe(state balancer.SubConnState) {
	if c.observer != nil {
		c.observer.Observe(c, state)
	}
}

// readyWatch returns the watch of a connection whose instance is known, else nil.
func (c *boundSubConn) readyWatch() *watch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.incarnation.Load() == nil {
		return nil
	}
	return c.watch
}

// report records what a watch found. incarnation is zero if the instance did not name
// itself.
func (c *boundSubConn) report(from *watch, incarnation discovery.Incarnation, health balancer.SubConnState) {
	c.mu.Lock()
	if c.watch != from {
		c.mu.Unlock()
		return // the connection ended
	}
	before := c.incarnation.Load()
	if incarnation.IsZero() && before != nil { // an instance keeps its incarnation
		incarnation = *before
	}
	if incarnation.IsZero() {
		incarnation = c.learned
	}
	if incarnation.IsZero() {
		incarnation = c.registered
	}
	c.incarnation.Store(&incarnation)
	same := c.announced && before != nil && c.health.ConnectivityState == health.ConnectivityState
	c.health = health
	c.useLink(from.link.Load(), health.ConnectivityState == connectivity.Ready)
	c.mu.Unlock()
	if !same {
		c.schedule()
	}
}

// useLink has calls take a link while the instance serves. c.mu is held.
func (c *boundSubConn) useLink(found *link, serves bool) {
	if c.channel == nil {
		return
	}
	c.link.Store(found)
	c.channel.setLinked(c, found != nil && serves)
}

// unlink has no more calls take a link.
func (c *boundSubConn) unlink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch = nil
	c.useLink(nil, false)
}

// schedule runs deliver in grpc-go's serializer, unless the connection ends first.
// grpc-go, for which no health check is configured, calls a health listener there
// once.
func (c *boundSubConn) schedule() {
	c.SubConn.RegisterHealthListener(func(balancer.SubConnState) { c.deliver() })
}

// deliver notifies the child that the connection is READY, unless it did so before,
// and then of the instance's health. It runs in grpc-go's serializer, under
// grpc-go's lock of the health listener.
func (c *boundSubConn) deliver() {
	c.mu.Lock()
	if c.watch == nil {
		c.mu.Unlock()
		return
	}
	first, health := !c.announced, c.health
	c.announced, c.delivering = true, true
	c.mu.Unlock()
	c.observe(health)
	if first {
		c.notifyChild(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	}
	c.mu.Lock()
	listener := c.healthListener
	c.delivering = false
	c.mu.Unlock()
	if listener != nil {
		listener(health)
	}
}

// RegisterHealthListener implements [balancer.SubConn]. The child is notified of the
// health that the instance reports of itself.
func (c *boundSubConn) RegisterHealthListener(listener func(balancer.SubConnState)) {
	c.mu.Lock()
	c.healthListener = listener
	later := c.announced && !c.delivering && listener != nil
	c.mu.Unlock()
	if later {
		c.schedule()
	}
}

// usable reports whether calls may be sent on the connection.
func (c *boundSubConn) usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.announced && c.health.ConnectivityState == connectivity.Ready
}

const (
	// lackingFor is how long a method counts as lacking: behind a proxy, the next
	// instance may have it.
	lackingFor = time.Minute
	// mostLacking is how many methods are remembered at most: paths may come from
	// outside.
	mostLacking = 256
)

// lacks reports whether the instance is known to lack a method.
func (c *boundSubConn) lacks(method string) bool {
	lacking := c.lacking.Load()
	if lacking == nil {
		return false
	}
	until, known := (*lacking)[method]
	return known && time.Now().Before(until)
}

// noteLacking notes that the instance lacks a method.
func (c *boundSubConn) noteLacking(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	lacking := make(map[string]time.Time)
	if before := c.lacking.Load(); before != nil {
		lacking = maps.Clone(*before)
	}
	if len(lacking) >= mostLacking {
		clear(lacking)
	}
	lacking[method] = now.Add(lackingFor)
	c.lacking.Store(&lacking)
}

// ended records the end of a call that was bound to an incarnation. It returns
// whether the attempt has to call inner, the child's function, now. Otherwise the
// penalty calls it later.
func (c *boundSubConn) ended(method string, bound discovery.Incarnation, outcome atmostonce.Outcome, inner func(balancer.DoneInfo), info balancer.DoneInfo) bool {
	if info.BytesReceived && !c.alive.Load() {
		c.alive.Store(true)
	}
	if info.Err == nil && outcome == atmostonce.Executed {
		c.penalty.succeeded()
		return true
	}
	if outcome == atmostonce.Executed || !c.refused(method, bound, outcome, info) {
		return true
	}
	if c.penalty.refused() >= manyInARow && c.observer != nil {
		c.observer.Refused(info.Err)
	}
	return inner == nil || !c.penalty.hold(inner, info)
}

// refused reports whether the instance refused a call that failed, and records what
// the refusal says about the instance.
func (c *boundSubConn) refused(method string, bound discovery.Incarnation, outcome atmostonce.Outcome, info balancer.DoneInfo) bool {
	reason := atmostonce.ReasonOf(info.Err)
	if reason == atmostonce.WrongInstance {
		c.correct(bound, info.Trailer[atmostonce.IncarnationKey])
	}
	lacking := status.Code(info.Err) == codes.Unimplemented && info.BytesReceived && (outcome == atmostonce.Refused || bound.IsZero())
	if lacking {
		c.noteLacking(method)
	}
	return lacking || outcome == atmostonce.Refused || reason != ""
}

// manyInARow is how many refusals in a row are taken for the instance's fault, not
// for that of the calls.
const manyInARow = 3

// correct records the incarnation that refused a call which was bound to another one.
// It is safe to bind a call to any incarnation: an instance with another one refuses
// it, and the refusal has the right one.
func (c *boundSubConn) correct(bound discovery.Incarnation, from []string) {
	if len(from) != 1 {
		return
	}
	other, err := discovery.ParseIncarnation(from[0])
	if err != nil || other == bound {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.incarnation.Load(); now != nil && *now == bound {
		c.learned = other
		c.incarnation.Store(&other)
	}
}
