package replay

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Copy is one copy of a call to be sent.
type Copy struct {
	// Address is the host and port to send to.
	Address string
	// After is the delay after the call was seen; 0 is none.
	After time.Duration
}

// Played is a copy that was sent, with its result.
type Played struct {
	Call   Call
	Copy   Copy
	Result Result
}

// Player sends copies of the calls that it sees. Its methods are safe for
// concurrent use.
type Player struct {
	sender *Sender
	decide func(Call) []Copy
	ctx    context.Context //nolint:containedctx // Close cancels it; all copies are sent under it
	cancel context.CancelFunc

	mu      sync.Mutex // guards the fields below
	closed  bool
	playing int
	idle    chan struct{} // closed while no copy is pending
	played  []Played
}

// NewPlayer returns a player. Decide returns the copies to send of a call, often
// none. It must return quickly and be safe for concurrent use. Close closes the
// player but not the sender.
func NewPlayer(sender *Sender, decide func(Call) []Copy) *Player {
	ctx, cancel := context.WithCancel(context.Background())
	idle := make(chan struct{})
	close(idle)
	return &Player{sender: sender, decide: decide, ctx: ctx, cancel: cancel, idle: idle}
}

// See starts to send the copies of a call that decide returns. It does not wait for
// their answers.
func (p *Player) See(call Call) {
	copies := p.decide(call)
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

// play sends one copy after its delay.
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

// Wait waits until no copy is pending.
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

// Played returns the copies that were sent and answered so far.
func (p *Player) Played() []Played {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.played)
}

// Close cancels the copies that are not answered yet and waits for them to end.
func (p *Player) Close() {
	p.cancel()
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.mu.Unlock()
	<-idle
}
