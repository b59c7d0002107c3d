// Package plaintext keeps services and buses from speaking plain text where others can read
// it.
package plaintext

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
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

// Check returns an error if a server without credentials listens on an address that other
// machines can reach.
func Check(server *grpc.Server, listener net.Addr) error {
	creds := serverCredentials(server)
	if !exposed(listener) || creds.IsValid() && !creds.IsNil() {
		return nil
	}
	return fmt.Errorf("the service listens on %s, which is not loopback, and speaks plain text, which others on the network can read and change: "+
		"set option TLS, or Insecure if plain text is meant", listener)
}

// Replaced reports whether a server has other credentials than given, a pointer. If that
// cannot be found out, it returns false.
func Replaced(server *grpc.Server, given credentials.TransportCredentials) bool {
	creds := serverCredentials(server)
	return creds.IsValid() && (creds.Elem().Kind() != reflect.Pointer || creds.Elem().UnsafePointer() != reflect.ValueOf(given).UnsafePointer())
}

// serverCredentials returns the credentials in the options of a server. grpc-go has no
// method for it, so the field is read by reflection. If there is no such field, the value
// is not valid.
func serverCredentials(server *grpc.Server) reflect.Value {
	options := reflect.ValueOf(server).Elem().FieldByName("opts")
	if options.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	if creds := options.FieldByName("creds"); creds.Kind() == reflect.Interface {
		return creds
	}
	return reflect.Value{}
}

// ErrExposed is the error of a connection in plain text to an instance that is not on
// loopback.
var ErrExposed = errors.New("its address is not loopback, and the bus speaks plain text, which others on the network can read and change: " +
	"set option TLS, or Insecure if plain text is meant")

// Credentials are the credentials of a bus that has none: grpc-go's insecure credentials,
// which connect only to instances on loopback, unless plain text is meant.
type Credentials struct {
	credentials.TransportCredentials

	// Spoken reports whether a connection was made with these credentials.
	Spoken *atomic.Bool
	meant  bool
}

// New returns the credentials of one bus. meant says that it may speak plain text with all
// instances.
func New(meant bool) Credentials {
	return Credentials{TransportCredentials: insecure.NewCredentials(), Spoken: new(atomic.Bool), meant: meant}
}

// ClientHandshake implements [credentials.TransportCredentials].
func (p Credentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if !p.meant && exposed(conn.RemoteAddr()) {
		return nil, nil, ErrExposed
	}
	p.Spoken.Store(true)
	return p.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

// Clone implements [credentials.TransportCredentials].
func (p Credentials) Clone() credentials.TransportCredentials { return p }
