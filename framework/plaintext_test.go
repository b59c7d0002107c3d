package framework_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestAServiceWithoutCredentialsWarnsOnceBeyondLoopback(t *testing.T) {
	t.Parallel()
	own, _ := certificate(t, "test.echo")
	for name, test := range map[string]struct {
		listen  string
		options []grpc.ServerOption
		want    int
	}{
		"on loopback":           {listen: "127.0.0.1:0", want: 0},
		"on IPv4 loopback":      {listen: "127.0.0.2:0", want: 0},
		"on every address":      {listen: ":0", want: 1},
		"on every IPv4 address": {listen: "0.0.0.0:0", want: 1},
		"other options are no credentials": {
			listen: ":0", options: []grpc.ServerOption{grpc.MaxConcurrentStreams(10), grpc.WriteBufferSize(100)}, want: 1,
		},
		"with TLS": {
			listen: ":0", options: []grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{own}}))}, want: 0,
		},
		"plain text is meant": {listen: ":0", options: []grpc.ServerOption{grpc.Creds(insecure.NewCredentials())}, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			var log testlog.Log
			running := serve(t, registry, &echo{}, framework.ListenOn(test.listen), framework.ServerOptions(test.options...),
				framework.Logger(log.Logger()))
			serving(t, registry, 1)
			if err := running.stop(); err != nil {
				t.Error(err)
			}
			if got := strings.Count(log.String(), "level=WARN"); got != test.want || strings.Count(log.String(), "plain text on an address") != test.want {
				t.Errorf("the log has %d warnings, want %d:\n%s", got, test.want, log.String())
			}
		})
	}
}

// elsewhere is a connection that reports an address on another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 443} }

func TestABusWithoutCredentialsWarnsOnceBeyondLoopback(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		remote  bool
		options []framework.BusOption
		want    int
	}{
		"on loopback":         {remote: false, want: 0},
		"elsewhere":           {remote: true, want: 1},
		"plain text is meant": {remote: true, options: []framework.BusOption{framework.DialOptions(grpc.WithTransportCredentials(insecure.NewCredentials()))}, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			serve(t, registry, &echo{})
			serve(t, registry, &echo{})
			var log testlog.Log
			dial := framework.DialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
				if err == nil && test.remote {
					conn = elsewhere{conn}
				}
				return conn, err
			}))
			bus := newBus(t, registry, append(test.options, dial, framework.Logger(log.Logger()))...)
			ready(t, bus, "test.echo", "onecall.test.v1.PlainService")
			for range 10 {
				if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
					t.Error(err)
				}
			}
			if got := strings.Count(log.String(), "plain text"); got != test.want*2 { // the problem, and what to do
				t.Errorf("the log has %d warnings, want %d:\n%s", got/2, test.want, log.String())
			}
		})
	}
}
