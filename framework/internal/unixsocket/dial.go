package unixsocket

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
)

// Dialer makes the connections of a bus: over the unix socket of an instance if it can be
// used, else over TCP. Its methods are safe for all goroutines.
type Dialer struct {
	log *slog.Logger
	// host returns the ID of this host, "" if it is not known.
	host func() string
	tcp  net.Dialer

	mu sync.Mutex // guards the fields below
	// used are the sockets of instances that connections were made to.
	used map[discovery.Incarnation]discovery.Socket
	// logged are the instances whose sockets cannot be used, which was logged.
	logged map[discovery.Incarnation]struct{}
}

// mostKnown is how many instances are kept of used and of logged.
const mostKnown = 1000

// NewDialer returns the dialer of a bus.
func NewDialer(log *slog.Logger) *Dialer {
	return &Dialer{
		log: log,
		host: sync.OnceValue(func() string {
			id, _ := hostID() // without it no instance is on this host
			return id
		}),
		// grpc-go's own: keep-alive with the times of the system.
		tcp:    net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}},
		used:   make(map[discovery.Incarnation]discovery.Socket),
		logged: make(map[discovery.Incarnation]struct{}),
	}
}

// socketKey is the key of the attribute of an address with its instance's socket.
type socketKey struct{}

// local is the attribute.
type local struct {
	socket      discovery.Socket
	incarnation discovery.Incarnation
}

// Attach returns the address of an instance with its socket, if the instance says that it is
// on this host.
func (d *Dialer) Attach(address resolver.Address, socket discovery.Socket, incarnation discovery.Incarnation) resolver.Address {
	if d == nil || socket.Host == "" || socket.Host != d.host() {
		return address
	}
	address.Attributes = address.Attributes.WithValue(socketKey{}, local{socket, incarnation})
	return address
}

// AttachUsed is Attach for an instance that the registry may not have any more. The socket is
// that of an earlier connection.
func (d *Dialer) AttachUsed(address resolver.Address, incarnation discovery.Incarnation) resolver.Address {
	if d == nil {
		return address
	}
	d.mu.Lock()
	socket := d.used[incarnation]
	d.mu.Unlock()
	return d.Attach(address, socket, incarnation)
}

// Dial connects to an address. It is the dialer of grpc-go, whose context has the attributes
// of the address.
func (d *Dialer) Dial(ctx context.Context, address string) (net.Conn, error) {
	to, ok := credentials.ClientHandshakeInfoFromContext(ctx).Attributes.Value(socketKey{}).(local)
	if !ok {
		return d.tcp.DialContext(ctx, "tcp", address)
	}
	conn, err := to.dial(ctx)
	if err == nil {
		d.mu.Lock()
		remember(d.used, to.incarnation, to.socket)
		d.mu.Unlock()
		return conn, nil
	}
	if ctx.Err() == nil && d.firstFailure(to.incarnation) {
		d.log.Info("an instance on this host is called over TCP, because its unix socket cannot be used", "address", address, "error", err)
	}
	return d.tcp.DialContext(ctx, "tcp", address)
}

// firstFailure reports whether the socket of an instance has failed for the first time.
func (d *Dialer) firstFailure(incarnation discovery.Incarnation) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, again := d.logged[incarnation]
	remember(d.logged, incarnation, struct{}{})
	return !again
}

// remember sets a value of a map that has at most mostKnown.
func remember[V any](in map[discovery.Incarnation]V, incarnation discovery.Incarnation, value V) {
	if _, known := in[incarnation]; !known && len(in) >= mostKnown {
		clear(in)
	}
	in[incarnation] = value
}
