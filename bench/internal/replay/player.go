package replay

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Copy is one more sending of a call.
type Copy struct {
	// Address is where to.
	Address string
	// After is how long after the call was seen; 0 is at once.
	After time.Duration
}

// Played is a copy that was sent, and its result.
type Played struct {
	Call   Call
	Copy   Copy
	Result Result
}

// Player sends copies of the calls that it sees. Its methods are safe for all
// goroutines.
type Player struct {
	sender *Sender
	decide func(Call) []Copy
	ctx    context.Context //nolint:containedctx // a player is a running thing, and this its life
	cancel context.CancelFunc

	mu      sync.Mutex // guards the fields below
	closed  bool
	playing int
	idle    chan struct{} // closed while nothing plays
	played  []Played
}

// NewPlayer gives a player. Decide says what becomes of a call that is seen,
// often nothing; it is quick and safe for all goroutines, and nil for a player
// that only plays. Close ends the player; the sender stays its owner's.
func NewPlayer(sender *Sender, decide func(Call) []Copy) *Player {
	ctx, cancel := context.WithCancel(context.Background())
	idle := make(chan struct{})
	close(idle)
	return &Player{sender: sender, decide: decide, ctx: ctx, cancel: cancel, idle: idle}
}

// See has the copies sent that are decided on. It returns at once.
func (p *Player) See(call Call) { p.Play(call, p.decide(call)) }

// Play has copies of a call sent. It returns at once.
func (p *Player) Play(call Call, copies []Copy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for _, one := range copies {
		if p.playing == 0 {
			p.idle = make(chan struct{})
		}
		p.playing++
		go p.play(call, one) // Close waits for it
	}
}

// play sends one copy.
func (p *Player) play(call Call, one Copy) {
	timer := time.NewTimer(one.After)
	defer timer.Stop()
	sent := false
	var result Result
	select {
	case <-timer.C:
		result, sent = p.sender.Send(p.ctx, one.Address, call), true
	case <-p.ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if sent {
		p.played = append(p.played, Played{Call: call, Copy: one, Result: result})
	}
	p.playing--
	if p.playing == 0 {
		close(p.idle)
	}
}

// Wait waits until all copies of the calls seen so far are answered.
func (p *Player) Wait(ctx context.Context) error {
	p.mu.Lock()
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Played gives the copies that were sent and answered so far.
func (p *Player) Played() []Played {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.played)
}

// Close gives up the copies that are not answered yet and waits for their ends.
func (p *Player) Close() {
	p.cancel()
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.mu.Unlock()
	<-idle
}
