// Package wire is a TCP proxy for tests, which holds what is on its way and cuts
// connections: before a request arrives, while its handler runs, or while the reply is
// on its way.
package wire

import (
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// Proxy forwards connections to one address. Its methods are safe for concurrent use.
type Proxy struct {
	tb       testing.TB
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	target string
	closed bool
	links  []*link
	// accepted counts the connections.
	accepted int
}

// Start starts a proxy, which ends with the test. Forward sets its target.
func Start(tb testing.TB) *Proxy {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return StartOn(tb, listener)
}

// StartOn is Start with a listener, such as that of a unix socket. The proxy closes it.
func StartOn(tb testing.TB, listener net.Listener) *Proxy {
	tb.Helper()
	p := &Proxy{tb: tb, listener: listener}
	p.running.Go(p.accept)
	tb.Cleanup(p.Close)
	return p
}

// Address returns the address of the proxy.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Forward sets the address to which new connections are forwarded, or the absolute path of
// a unix socket. Until then they are closed.
func (p *Proxy) Forward(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close() // it may be closed already
	for _, l := range p.open() {
		l.cut()
		l.drop()
	}
	p.running.Wait()
}

// HoldRequests holds what clients send on the connections that exist, until Deliver.
func (p *Proxy) HoldRequests() {
	for _, l := range p.open() {
		l.requests.hold()
	}
}

// HoldReplies holds what the target sends on the connections that exist. It is lost
// when they are cut.
func (p *Proxy) HoldReplies() {
	for _, l := range p.open() {
		l.replies.hold()
	}
}

// Held returns how many bytes are held of requests, and of replies: those of the
// connection with the most.
func (p *Proxy) Held() (requests, replies int) {
	for _, l := range p.open() {
		requests = max(requests, l.requests.held())
		replies = max(replies, l.replies.held())
	}
	return requests, replies
}

// Connections returns how many connections were accepted so far.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Cut resets all connections, at both ends.
func (p *Proxy) Cut() {
	for _, l := range p.open() {
		l.cut()
		l.drop()
	}
}

// CutClients resets all connections at their clients. What was held of their requests
// can still be delivered.
func (p *Proxy) CutClients() {
	for _, l := range p.open() {
		l.cut()
	}
}

// Deliver forwards the requests that are held.
func (p *Proxy) Deliver() {
	for _, l := range p.open() {
		l.requests.release()
	}
}

// open returns the connections whose target was not cut.
func (p *Proxy) open() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.links)
}

// accept accepts connections until the listener is closed.
func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		network := "tcp"
		if filepath.IsAbs(target) {
			network = "unix"
		}
		server, err := new(net.Dialer).DialContext(p.tb.Context(), network, target)
		if err != nil {
			abort(client)
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		closed := p.closed
		p.links = append(p.links, l)
		p.accepted++
		p.mu.Unlock()
		if closed {
			l.cut()
			l.drop()
			return
		}
		l.requests.to, l.replies.to = server, client
		p.running.Go(func() {
			l.requests.copy(client)
			if !l.requests.isHeld() {
				l.drop()
			}
		})
		p.running.Go(func() {
			l.replies.copy(server)
			l.cut()
			p.remove(l)
		})
	}
}

// remove removes a connection that the target has ended.
func (p *Proxy) remove(ended *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links = slices.DeleteFunc(p.links, func(l *link) bool { return l == ended })
}

// link is one connection of a client, and the one to the target.
type link struct {
	client, server    net.Conn
	requests, replies pipe
}

// cut resets the connection at its client.
func (l *link) cut() { abort(l.client) }

// drop resets the connection at the target.
func (l *link) drop() { abort(l.server) }

// abort resets a connection: what is in transit is lost.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only when it is closed
	}
	_ = conn.Close()
}

// pipe is one direction of a connection.
type pipe struct {
	to net.Conn

	mu      sync.Mutex // guards the fields below, and is held while to is written
	holding bool
	kept    []byte
}

// copy forwards what is read from a connection, until that ends.
func (p *pipe) copy(from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.forward(buffer[:n])
		if err != nil {
			return
		}
	}
}

// forward writes or keeps bytes.
func (p *pipe) forward(bytes []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holding {
		p.kept = append(p.kept, bytes...)
		return
	}
	_, _ = p.to.Write(bytes) // if the other end was cut, the bytes are lost
}

// hold keeps what arrives from now on.
func (p *pipe) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holding = true
}

// isHeld reports whether what arrives is kept.
func (p *pipe) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.holding
}

// held returns how many bytes are kept.
func (p *pipe) held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.kept)
}

// release writes what was kept.
func (p *pipe) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holding = false
	_, _ = p.to.Write(p.kept) // if the other end was cut, the bytes are lost
	p.kept = nil
}
