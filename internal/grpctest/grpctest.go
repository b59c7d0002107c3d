// Package grpctest serves gRPC servers for tests, on loopback or in memory. Each
// server runs until its test ends. It also runs a test in an environment with a proxy.
package grpctest

import (
	"context"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// bufferBytes is how much a connection in memory holds in each direction.
const bufferBytes = 1 << 20

// Loopback serves a server at a free port of loopback and returns the address.
func Loopback(tb testing.TB, server *grpc.Server) (address string) {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	Serve(tb, server, listener)
	return listener.Addr().String()
}

// Memory serves a server in memory and returns a connection to it, in plain text
// unless the options say otherwise.
func Memory(tb testing.TB, server *grpc.Server, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	listener := bufconn.Listen(bufferBytes)
	Serve(tb, server, listener)
	conn, err := grpc.NewClient("passthrough:///memory", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
	}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Serve serves a server on a listener.
func Serve(tb testing.TB, server *grpc.Server, listener net.Listener) {
	tb.Helper()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	tb.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			tb.Error(err)
		}
	})
}
