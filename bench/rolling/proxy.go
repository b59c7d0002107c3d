package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// proxy forwards each connection to one of its targets, as a layer-4 load balancer does.
// Its methods are safe for all goroutines.
type proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	targets []string
	next    int
	conns   map[net.Conn]struct{}
}

func startProxy(ctx context.Context) (*proxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, conns: make(map[net.Conn]struct{})}
	p.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // it was closed
			}
			p.running.Go(func() { p.forward(ctx, conn) })
		}
	})
	return p, nil
}

// add adds a target.
func (p *proxy) add(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets = append(p.targets, target)
}

// remove removes one target of an address. Its connections go on.
func (p *proxy) remove(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, each := range p.targets {
		if each == target {
			p.targets = append(p.targets[:i:i], p.targets[i+1:]...)
			return
		}
	}
}

// forward forwards a connection until one of its ends closes it.
func (p *proxy) forward(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }() // it may be closed
	p.mu.Lock()
	if len(p.targets) == 0 {
		p.mu.Unlock()
		return
	}
	target := p.targets[p.next%len(p.targets)]
	p.next++
	p.mu.Unlock()
	out, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }() // it may be closed
	p.keep(conn, out)
	defer p.forget(conn, out)
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{conn, out}, {out, conn}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			if half, ok := pair[0].(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
		})
	}
	both.Wait()
}

func (p *proxy) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.conns[conn] = struct{}{}
	}
}

func (p *proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		delete(p.conns, conn)
	}
}

// close ends the proxy and its connections.
func (p *proxy) close() error {
	errs := []error{p.listener.Close()}
	p.mu.Lock()
	for conn := range p.conns {
		_ = conn.Close() // forward closes it too
	}
	p.mu.Unlock()
	p.running.Wait()
	return errors.Join(errs...)
}
