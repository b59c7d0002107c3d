package client

import (
	"maps"
	"slices"
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

// boundSubConn is a connection to an address. It is reported READY to the child
// once it is known which instance answers there: see [watch].
type boundSubConn struct {
	balancer.SubConn

	policy     *policy
	address    string
	registered discovery.Incarnation // what the registry says of the address
	observer   Observer              // nil when there is none
	// listener is the child's.
	listener func(balancer.SubConnState)

	// incarnation is the instance that calls are bound to; nil while it is not
	// known. It points to zero when the instance knows nothing of identities.
	incarnation atomic.Pointer[discovery.Incarnation]
	// lacking has the methods that the instance does not have, by gRPC's path,
	// and until when that is believed. It is replaced, never changed.
	lacking atomic.Pointer[map[string]time.Time]
	// alive is set when the instance has answered anything.
	alive   atomic.Bool
	penalty penalty

	mu sync.Mutex // guards the fields below
	// watch is that of the present connection; nil while there is none.
	watch *watch
	// announced is whether the child knows that the connection is READY.
	announced bool
	// delivering is whether deliver is at work, and calls the child.
	delivering bool
	// health is what the instance last said of itself.
	health balancer.SubConnState
	// healthListener is the child's, if it has registered one since READY.
	healthListener func(balancer.SubConnState)
	// learned is the instance that refused a call which was bound to another.
	learned discovery.Incarnation
}

// addressOf returns the address, "" of no connection.
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
	c.mu.Unlock()
	if state.ConnectivityState == connectivity.Ready {
		c.GetOrBuildProducer((*watchBuilder)(c)) // grpc-go closes it with the connection
		return
	}
	c.incarnation.Store(nil) // who answers next may be another process
	c.lacking.Store(nil)
	c.penalty.release()
	c.observe(state)
	c.tell(state)
	if state.ConnectivityState == connectivity.Shutdown {
		c.policy.forget(c)
	}
}

// tell calls the child's listener.
func (c *boundSubConn) tell(state balancer.SubConnState) {
	if c.listener != nil {
		c.listener(state)
		return
	}
	c.policy.child.UpdateSubConnState(c, state) //nolint:staticcheck // a child that sets no listener counts on it
}

func (c *boundSubConn) observe(state balancer.SubConnState) {
	if c.observer != nil {
		c.observer.Observe(state)
	}
}

// report takes in what the watch of a connection found. incarnation is zero when
// the instance did not say who it is.
func (c *boundSubConn) report(from *watch, incarnation discovery.Incarnation, health balancer.SubConnState) {
	c.mu.Lock()
	if c.watch != from {
		c.mu.Unlock()
		return // the connection ended
	}
	before := c.incarnation.Load()
	if incarnation.IsZero() && before != nil { // what this connection said before is still so
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
	c.mu.Unlock()
	if !same {
		c.schedule()
	}
}

// schedule has deliver run in grpc-go's serializer, unless the connection ends
// first: grpc-go, which has no health check of its own configured, calls a
// listener there once.
func (c *boundSubConn) schedule() {
	c.SubConn.RegisterHealthListener(func(balancer.SubConnState) { c.deliver() })
}

// deliver reports to the child what it does not know yet: that the connection is
// READY, then what the instance says of itself. It runs in the serializer, with
// grpc-go's lock on the health listener.
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
		c.tell(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	}
	c.mu.Lock()
	listener := c.healthListener
	c.delivering = false
	c.mu.Unlock()
	if listener != nil {
		listener(health)
	}
}

// RegisterHealthListener implements [balancer.SubConn]. That an instance says
// that it does not serve is as good as no connection to it.
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
	// lackingFor is how long an instance is believed to lack a method: behind a
	// proxy the next one may have it.
	lackingFor = time.Minute
	// mostLacking bounds what is remembered: paths may come from outside.
	mostLacking = 256
)

// lacks reports whether the instance is known not to have a method.
func (c *boundSubConn) lacks(method string) bool {
	lacking := c.lacking.Load()
	if lacking == nil {
		return false
	}
	until, known := (*lacking)[method]
	return known && time.Now().Before(until)
}

// lack notes that the instance does not have a method.
func (c *boundSubConn) lack(method string) {
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

// ended takes in the end of a call that was bound to an incarnation. It returns
// whether inner, the child's, is to be called now; else it is called later.
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

// refused reports whether the instance refused a call that failed, and takes in
// what the refusal says of the instance.
func (c *boundSubConn) refused(method string, bound discovery.Incarnation, outcome atmostonce.Outcome, info balancer.DoneInfo) bool {
	reason := atmostonce.ReasonOf(info.Err)
	if reason == atmostonce.WrongInstance {
		c.correct(bound, info.Trailer[atmostonce.IncarnationKey])
	}
	lacking := status.Code(info.Err) == codes.Unimplemented && info.BytesReceived && (outcome == atmostonce.Refused || bound.IsZero())
	if lacking {
		c.lack(method)
	}
	return lacking || outcome == atmostonce.Refused || reason != ""
}

// manyInARow is how many refusals in a row are the instance's rather than the
// calls' own.
const manyInARow = 3

// correct takes in that a call which was bound to an incarnation met another one
// at the address. Any incarnation is safe to bind calls to; a false one has them
// refused, by whose word the true one is learned.
func (c *boundSubConn) correct(bound discovery.Incarnation, said []string) {
	if len(said) != 1 {
		return
	}
	other, err := discovery.ParseIncarnation(said[0])
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

// penalty keeps calls that an instance refused under way for a time, so that an
// instance that refuses at once does not look like the one with the least to do.
// Its methods are safe for all goroutines.
type penalty struct {
	// failing is whether inARow is not zero.
	failing atomic.Bool

	mu sync.Mutex // guards the fields below
	// inARow counts refusals without a success in between.
	inARow int
	held   []heldCall
	timer  *time.Timer // nil while nothing is held
}

// heldCall is a call that has ended and still counts as under way.
type heldCall struct {
	until time.Time
	done  func(balancer.DoneInfo)
	info  balancer.DoneInfo
}

const (
	// leastHeld is how long a first refusal counts; it doubles with each that
	// follows, up to mostHeld.
	leastHeld, mostHeld = time.Second, 16 * time.Second
	// mostCalls bounds how many calls of a connection are held.
	mostCalls = 256
)

// succeeded notes that a call was answered.
func (p *penalty) succeeded() {
	if !p.failing.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inARow = 0
	p.failing.Store(false)
}

// refused notes that a call was refused, and returns how many were in a row.
func (p *penalty) refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing.Store(true)
	p.inARow++
	return p.inARow
}

// hold has done be called later, and reports whether it will be.
func (p *penalty) hold(done func(balancer.DoneInfo), info balancer.DoneInfo) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.held) >= mostCalls {
		return false
	}
	length := mostHeld
	if doublings := max(p.inARow-1, 0); doublings < 8 {
		length = min(leastHeld<<doublings, mostHeld)
	}
	p.held = append(p.held, heldCall{time.Now().Add(length), done, info})
	if p.timer == nil {
		p.timer = time.AfterFunc(length, p.expire)
	}
	return true
}

// expire lets go the calls whose time is over.
func (p *penalty) expire() {
	now := time.Now()
	var over []heldCall
	p.mu.Lock()
	if p.timer == nil {
		p.mu.Unlock()
		return
	}
	p.held = slices.DeleteFunc(p.held, func(held heldCall) bool {
		if held.until.After(now) {
			return false
		}
		over = append(over, held)
		return true
	})
	p.timer = nil
	if len(p.held) > 0 {
		next := slices.MinFunc(p.held, func(a, b heldCall) int { return a.until.Compare(b.until) }).until
		p.timer = time.AfterFunc(next.Sub(now), p.expire)
	}
	p.mu.Unlock()
	for _, held := range over {
		held.done(held.info)
	}
}

// release lets go all calls.
func (p *penalty) release() {
	p.mu.Lock()
	held := p.held
	p.held, p.inARow = nil, 0
	p.failing.Store(false)
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.mu.Unlock()
	for _, held := range held {
		held.done(held.info)
	}
}
