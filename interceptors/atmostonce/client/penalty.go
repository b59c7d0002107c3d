package client

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
)

// penalty delays the end of calls that an instance refused, for the child policy.
// Otherwise an instance that refuses all calls at once would have the fewest calls
// in flight, and be picked. Its methods are safe for all goroutines.
type penalty struct {
	// failing is whether inARow is not zero.
	failing atomic.Bool

	mu sync.Mutex // guards the fields below
	// inARow counts refusals without a success in between.
	inARow int
	held   []heldCall
	timer  *time.Timer // nil while no call is held
}

// heldCall is a call that has ended and still counts as in flight.
type heldCall struct {
	until time.Time
	done  func(balancer.DoneInfo)
	info  balancer.DoneInfo
}

const (
	// leastHeld is how long the first refused call is held. The time doubles with
	// each refusal that follows, up to mostHeld.
	leastHeld, mostHeld = time.Second, 16 * time.Second
	// mostCalls is how many calls of a connection are held at most.
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

// refused notes that a call was refused, and returns how many were refused in a row.
func (p *penalty) refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing.Store(true)
	p.inARow++
	return p.inARow
}

// hold calls done later, and reports whether it will.
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

// expire ends the calls whose time is over.
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

// release ends all calls.
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
