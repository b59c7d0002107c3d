// Package fixedport reserves loopback addresses for servers that start again, or later.
//
// A port that the operating system chose for "127.0.0.1:0" is not reserved. As soon as its
// listener is closed, the operating system may use it for any outgoing connection.
package fixedport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// The ports to choose from are below those that operating systems use for outgoing
// connections: Linux from 32768, macOS and Windows from 49152.
const lowest, highest = 15000, 30000

// tries is how many ports are tried before Reserve fails.
const tries = 1000

// Reserve returns an address, "127.0.0.1:port", on which nothing listens. No other call
// of Reserve on this machine returns the address until release is called or this process
// has ended. It returns an error if there is no such address.
func Reserve(ctx context.Context) (address string, release func() error, err error) {
	for range tries {
		address := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(highest-lowest))
		if release, err = reserve(ctx, address); err == nil {
			return address, release, nil
		}
	}
	return "", nil, fmt.Errorf("no free port of 127.0.0.1 from %d to %d: %w", lowest, highest, err)
}

// reserve binds the port for UDP. That reserves it from other calls of Reserve, and leaves
// it free for TCP.
func reserve(ctx context.Context, address string) (release func() error, err error) {
	mark, err := new(net.ListenConfig).ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, errors.Join(err, mark.Close())
	}
	if err := listener.Close(); err != nil {
		return nil, errors.Join(err, mark.Close())
	}
	return mark.Close, nil
}

// Address returns an address that is reserved until the test has ended.
func Address(tb testing.TB) string {
	tb.Helper()
	address, release, err := Reserve(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = release() })
	return address
}
