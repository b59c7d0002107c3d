package server

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/onecall-dev/onecall/internal/lograte"
)

// connections are those of a service, on all its listeners.
type connections struct {
	limits  Limits
	log     *slog.Logger
	lines   lograte.Limiter
	refused atomic.Uint64

	mu    sync.Mutex // guards the fields below
	open  int
	hosts map[netip.Addr]int // those of open, by host
}

func newConnections(limits Limits, log *slog.Logger) *connections {
	return &connections{limits: limits, log: log, hosts: make(map[netip.Addr]int)}
}

// limitedListener is a listener that closes each connection above the limits as soon as it
// has accepted it. A caller then connects to another instance: nothing was sent.
type limitedListener struct {
	net.Listener
	*connections
}

// Accept implements [net.Listener].
func (c limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := hostOf(conn.RemoteAddr())
		problem := c.take(host)
		if problem == "" {
			return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { c.leave(host) })}, nil
		}
		_ = conn.Close() // its caller learns no more than that
		c.refused.Add(1)
		if c.lines.Allow(problem, 1) {
			c.log.Warn(problem, "host", host)
		}
	}
}

// take counts a connection of a host. If there are too many, it returns why instead.
func (c *connections) take(host netip.Addr) (problem string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.open >= c.limits.Connections:
		return "the service has as many connections as it may, and closes further ones: raise option MaxConnections, or add instances"
	case host.IsValid() && c.hosts[host] >= c.limits.ConnectionsPerHost:
		return "a host has as many connections as it may, and its further ones are closed: have each of its programs keep one bus, or raise option MaxConnections"
	}
	c.open++
	c.hosts[host]++
	return ""
}

// leave counts the end of a connection.
func (c *connections) leave(host netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	c.hosts[host]--
	if c.hosts[host] == 0 {
		delete(c.hosts, host)
	}
}

// count returns how many connections there are.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// hostOf returns the host of a peer: its IP address, of IPv6 the first 64 bits, because one
// host may use all addresses of its network. That of a unix socket is the loopback address.
// It is the zero value if the peer has none.
func hostOf(address net.Addr) netip.Addr {
	var ip netip.Addr
	switch at := address.(type) {
	case *net.UnixAddr:
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case *net.TCPAddr:
		ip = at.AddrPort().Addr().Unmap()
	default:
		return netip.Addr{}
	}
	if ip.Is6() {
		if network, err := ip.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return ip
}

// countedConn is a connection whose end is counted.
type countedConn struct {
	net.Conn

	closed func()
}

var _ syscall.Conn = (*countedConn)(nil)

// Close implements [net.Conn].
func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// NetConn returns the connection that is counted, as [crypto/tls.Conn.NetConn] does, for
// credentials that inspect it.
func (c *countedConn) NetConn() net.Conn { return c.Conn }

// SyscallConn implements [syscall.Conn], for channelz.
func (c *countedConn) SyscallConn() (syscall.RawConn, error) {
	inner, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return inner.SyscallConn()
}
