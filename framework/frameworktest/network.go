package frameworktest

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// bufferBytes is how much a connection to a service holds in each direction.
const bufferBytes = 64 << 10

// network connects the buses of a kit to its instances, in memory.
type network struct {
	ports   atomic.Uint32 // the last port that was given to an instance or a connection
	running sync.WaitGroup
	// forgotten are the identities of calls of which no instance says what became.
	forgotten sync.Map

	mu    sync.Mutex // guards the fields below
	hosts map[string]*generation
	ended bool
}

func newNetwork() *network {
	n := &network{hosts: make(map[string]*generation)}
	n.ports.Store(firstPort)
	return n
}

// firstPort is the first port of an instance. Ports of Linux's clients begin there.
const firstPort = 32768

// newAddress returns an address that no other part of the network has.
func (n *network) newAddress() *net.TCPAddr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(n.ports.Add(1))}
}

// listen has a generation answer at its address from now on.
func (n *network) listen(g *generation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[g.instance.address.String()] = g
}

// leave ends that, unless another generation answers there.
func (n *network) leave(g *generation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if address := g.instance.address.String(); n.hosts[address] == g {
		delete(n.hosts, address)
	}
}

// dial connects to an address, for [grpc.WithContextDialer].
func (n *network) dial(ctx context.Context, address string) (net.Conn, error) {
	g := n.enter(address)
	if g == nil {
		return nil, refused(address)
	}
	server, err := g.listener.dial(ctx)
	if err != nil {
		n.running.Done()
		return nil, err
	}
	client, near := net.Pipe()
	newLink(g, near, server).start()
	return &conn{Conn: client, local: n.newAddress(), remote: g.instance.address}, nil
}

// enter returns the generation that answers at an address, and adds a connection to those
// that run. It returns nil if nothing answers.
func (n *network) enter(address string) *generation {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := n.hosts[address]
	if g == nil || n.ended {
		return nil
	}
	n.running.Add(1)
	return g
}

// end waits until nothing runs in the network. From now on nothing answers.
func (n *network) end() {
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
	n.running.Wait()
}

// refused returns the error of a connection to an address at which nothing listens.
func refused(address string) error {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return err
	}
	return &net.OpError{Op: "dial", Net: "tcp", Addr: at, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

// listener is where an instance accepts connections.
type listener struct {
	*bufconn.Listener

	address *net.TCPAddr
	network *network
}

// Addr implements [net.Listener].
func (l *listener) Addr() net.Addr { return l.address }

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: accepted, local: l.address, remote: l.network.newAddress()}, nil
}

// dial connects to the listener.
func (l *listener) dial(ctx context.Context) (net.Conn, error) {
	dialed, err := l.DialContext(ctx)
	if err != nil && ctx.Err() == nil { // it is closed
		return nil, refused(l.address.String())
	}
	return dialed, err
}

// conn is a connection with the addresses of TCP, by which a service knows its callers.
type conn struct {
	net.Conn

	local, remote net.Addr
}

// LocalAddr implements [net.Conn].
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements [net.Conn].
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// Close implements [net.Conn]. It ends the timers of deadlines, which would keep the
// connection in memory.
func (c *conn) Close() error {
	_ = c.SetDeadline(time.Time{}) // fails if it is closed
	return c.Conn.Close()
}
