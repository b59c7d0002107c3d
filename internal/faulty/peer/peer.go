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

// Script returns the steps that answer a request, of which only the headers have
// arrived.
type Script func(Request) []Step

// Always answers each request with the same steps.
func Always(steps ...Step) Script {
	return func(Request) []Step { return steps }
}

// InTurn answers the first request with the first steps, and so on. The last steps
// also answer all further requests.
func InTurn(turns ...[]Step) Script {
	return func(request Request) []Step { return turns[min(request.Number, len(turns))-1] }
}

// Config is what a peer does with new connections. Its zero value does what gRPC
// servers do.
type Config struct {
	// Accepted is called with each connection before anything is read or written;
	// nil does nothing.
	Accepted func(*Connection) error
	// Settings are those of the peer's first frame; none are HTTP/2's defaults.
	Settings []http2.Setting
	// Greeted is called with each connection after the first frame was written and
	// the client's preface was read, so before a request can arrive; nil does nothing.
	Greeted func(*Connection) error
	// Names returns the incarnation with which the peer names itself in its health
	// service, for each connection; nil has no health service.
	Names func(*Connection) string
}

// Peer is a scripted server. Its methods are safe for concurrent use.
type Peer struct {
	listener net.Listener
	script   Script
	config   Config
	cancel   context.CancelFunc
	running  sync.WaitGroup

	// mu guards the fields below. No other lock is taken under it.
	mu          sync.Mutex
	requests    []*Request
	connections []*Connection
	errs        []error
	changed     chan struct{} // closed and replaced at each change of the others
}

// Serve starts a peer that serves a listener by a script. Close stops it.
func Serve(listener net.Listener, config Config, script Script) *Peer {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Peer{listener: listener, script: script, config: config, cancel: cancel, changed: make(chan struct{})}
	p.running.Go(func() { p.accept(ctx) })
	return p
}

// Address returns the address of the peer's listener.
func (p *Peer) Address() string { return p.listener.Addr().String() }

// Close ends all connections and scripts and waits for them. It returns the errors of
// the scripts, without those of connections and streams that the client or a script
// ended.
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
	return errors.Join(p.errs...)
}

// Requests returns the requests so far, in the order of arrival.
func (p *Peer) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := make([]Request, len(p.requests))
	for i, request := range p.requests {
		requests[i] = *request
	}
	return requests
}

// Executed returns how many requests were executed: those with an identity, or all if
// identity is empty.
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

// Wait waits until wanted accepts the requests, and returns them. If ctx ends first,
// its error lists the requests so far.
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

// accept accepts connections until the listener is closed.
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
		p.notify()
		p.mu.Unlock()
		if ctx.Err() != nil { // Close may not have seen this connection
			connection.Close()
		}
		p.running.Go(func() { connection.serve(ctx) })
	}
}

// arrived records a request and sets its number.
func (p *Peer) arrived(request *Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, request)
	request.Number = len(p.requests)
	p.notify()
}

// change changes a recorded request.
func (p *Peer) change(edit func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit()
	p.notify()
}

// fail records an error for Close.
func (p *Peer) fail(err error) {
	p.change(func() { p.errs = append(p.errs, fmt.Errorf("peer: %w", err)) })
}

// snapshot copies a request.
func (p *Peer) snapshot(request *Request) Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *request
}

// notify wakes the callers of Wait. The caller holds mu.
func (p *Peer) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}
