package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"golang.org/x/net/http2"
)

// Script returns the steps with which a request is met. It receives the request as
// far as its headers.
type Script func(Request) []Step

// Always meets each request with the same steps.
func Always(steps ...Step) Script {
	return func(Request) []Step { return steps }
}

// InTurn meets the first request with the first steps, and so on; the last
// steps are those of all further requests.
func InTurn(turns ...[]Step) Script {
	return func(request Request) []Step { return turns[min(request.Number, len(turns))-1] }
}

// Config is how a peer greets connections. Its zero value does it as gRPC
// servers do.
type Config struct {
	// Accepted is run with each connection before anything is read or
	// written; nil does nothing.
	Accepted func(*Connection) error
	// Settings are those of the peer's first frame; none are HTTP/2's.
	Settings []http2.Setting
	// Greeted is run with each connection once the first frame was written and
	// the caller's preface read, so before a request can arrive; nil does
	// nothing.
	Greeted func(*Connection) error
}

// Peer is a scripted server. Its methods are safe for all goroutines.
type Peer struct {
	listener net.Listener
	script   Script
	config   Config
	cancel   context.CancelFunc
	running  sync.WaitGroup

	// mu guards the fields below. It is the innermost lock.
	mu          sync.Mutex
	requests    []*Request
	connections []*Connection
	faults      []error
	changed     chan struct{} // closed, and made anew, when one of them changes
}

// Serve begins to serve a listener by a script. Close ends it.
func Serve(listener net.Listener, config Config, script Script) *Peer {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Peer{listener: listener, script: script, config: config, cancel: cancel, changed: make(chan struct{})}
	p.running.Go(func() { p.accept(ctx) })
	return p
}

// Address is where the peer listens.
func (p *Peer) Address() string { return p.listener.Addr().String() }

// Close ends all connections and scripts and waits for them. It returns what went
// wrong with scripts, other than by the ends that callers and scripts made.
func (p *Peer) Close() error {
	p.cancel()
	_ = p.listener.Close() // it may be closed already
	p.mu.Lock()
	open := slices.Clone(p.connections)
	p.mu.Unlock()
	for _, connection := range open {
		connection.Close()
	}
	p.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.faults...)
}

// Requests returns what arrived so far, in the order of arrival.
func (p *Peer) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := make([]Request, len(p.requests))
	for i, request := range p.requests {
		requests[i] = *request
	}
	return requests
}

// Executed returns how many requests were executed: of the call with that
// identity if it is not empty, else of all.
func (p *Peer) Executed(identity string) int {
	executed := 0
	for _, request := range p.Requests() {
		if request.Executed && (identity == "" || request.Identity() == identity) {
			executed++
		}
	}
	return executed
}

// Connections returns how many connections were accepted.
func (p *Peer) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.connections)
}

// Wait waits until the requests are as wanted, and returns them. Its error says
// what there was instead when ctx ends.
func (p *Peer) Wait(ctx context.Context, wanted func([]Request) bool) ([]Request, error) {
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		requests := p.Requests()
		if wanted(requests) {
			return requests, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return requests, fmt.Errorf("peer: the wanted requests did not arrive, only %+v: %w", requests, ctx.Err())
		}
	}
}

// accept takes connections until the listener is closed.
func (p *Peer) accept(ctx context.Context) {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		connection := newConnection(p, conn)
		p.mu.Lock()
		p.connections = append(p.connections, connection)
		connection.number = len(p.connections)
		p.tell()
		p.mu.Unlock()
		if ctx.Err() != nil { // Close may have passed this one by
			connection.Close()
		}
		p.running.Go(func() { connection.serve(ctx) })
	}
}

// arrived records a request and returns its number.
func (p *Peer) arrived(request *Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, request)
	request.Number = len(p.requests)
	p.tell()
}

// change changes what is recorded.
func (p *Peer) change(edit func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit()
	p.tell()
}

// fault records what went wrong.
func (p *Peer) fault(err error) {
	p.change(func() { p.faults = append(p.faults, fmt.Errorf("peer: %w", err)) })
}

// snapshot copies a request.
func (p *Peer) snapshot(request *Request) Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *request
}

// tell wakes who waits. The lock is held.
func (p *Peer) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}
