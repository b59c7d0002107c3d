// Package plaintext warns of services and buses that speak plain text where others can
// read it.
package plaintext

import (
	"context"
	"log/slog"
	"net"
	"reflect"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// exposed reports whether the address of a listener or an instance is a TCP address that
// is not loopback.
func exposed(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}

// WarnOf logs a warning if a server without credentials listens on an address
// that other machines can reach.
func WarnOf(log *slog.Logger, server *grpc.Server, listener net.Addr) {
	if exposed(listener) && withoutCredentials(server) {
		log.Warn("the service speaks plain text on an address that is not loopback: others on the network can read and change its calls; "+
			"set grpc.Creds in option ServerOptions, grpc.Creds(insecure.NewCredentials()) if plain text is meant", "address", listener.String())
	}
}

// withoutCredentials reports whether the options of a server have no grpc.Creds. grpc-go
// has no method for it, so the field is read by reflection. If there is no such field,
// it returns false.
func withoutCredentials(server *grpc.Server) bool {
	options := reflect.ValueOf(server).Elem().FieldByName("opts")
	if options.Kind() != reflect.Struct {
		return false
	}
	creds := options.FieldByName("creds")
	return creds.Kind() == reflect.Interface && creds.IsNil()
}

// Credentials are the credentials of a bus whose DialOptions have none: grpc-go's insecure
// credentials, with one warning at the first instance that is not on loopback.
type Credentials struct {
	credentials.TransportCredentials

	warn *sync.Once
	// Spoken reports whether a connection was made with these credentials.
	Spoken *atomic.Bool
	log    *slog.Logger
}

// New returns the credentials of one bus.
func New(log *slog.Logger) Credentials {
	return Credentials{TransportCredentials: insecure.NewCredentials(), warn: new(sync.Once), Spoken: new(atomic.Bool), log: log}
}

// ClientHandshake implements [credentials.TransportCredentials].
func (p Credentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p.Spoken.Store(true)
	if exposed(conn.RemoteAddr()) {
		p.warn.Do(func() {
			p.log.Warn("the bus speaks plain text with instances that are not on loopback: others on the network can read and change its calls; "+
				"set grpc.WithTransportCredentials in option DialOptions, to insecure.NewCredentials() if plain text is meant", "address", conn.RemoteAddr().String())
		})
	}
	return p.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

// Clone implements [credentials.TransportCredentials].
func (p Credentials) Clone() credentials.TransportCredentials { return p }
