//go:build !linux && !darwin

package unixsocket

import (
	"context"
	"errors"
	"net"

	"github.com/onecall-dev/onecall/discovery"
)

// Supported says that this package works on this platform.
const Supported = false

// Listener listens on a socket. There is none on this platform.
type Listener struct{ net.Listener }

// Bases returns nothing: there are no sockets on this platform.
func Bases() []string { return nil }

// Listen returns an error: there are no sockets on this platform.
func Listen(context.Context, []string, discovery.Incarnation) (*Listener, error) {
	return nil, errors.ErrUnsupported
}

// Socket returns the zero value.
func (*Listener) Socket() discovery.Socket { return discovery.Socket{} }

func hostID() (string, error) { return "", errors.ErrUnsupported }

func (local) dial(context.Context) (net.Conn, error) { return nil, errors.ErrUnsupported }
