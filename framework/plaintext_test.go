package framework_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestAServiceInPlainTextListensOnLoopbackUnlessThatIsMeant(t *testing.T) {
	t.Parallel()
	own, _ := certificate(t, "test.echo")
	elsewhere := func() net.Listener {
		listener, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		return listener
	}
	for name, test := range map[string]struct {
		options []framework.ServeOption
		refused bool
	}{
		"on loopback":           {options: []framework.ServeOption{framework.ListenOn("127.0.0.1:0")}},
		"on IPv4 loopback":      {options: []framework.ServeOption{framework.ListenOn("127.0.0.2:0")}},
		"on every address":      {options: []framework.ServeOption{framework.ListenOn(":0")}, refused: true},
		"on every IPv4 address": {options: []framework.ServeOption{framework.ListenOn("0.0.0.0:0")}, refused: true},
		"a listener":            {options: []framework.ServeOption{framework.Listener(elsewhere())}, refused: true},
		"other options are no credentials": {
			options: []framework.ServeOption{framework.ListenOn(":0"), framework.ServerOptions(grpc.MaxConcurrentStreams(10), grpc.WriteBufferSize(100))}, refused: true,
		},
		"no credentials": {options: []framework.ServeOption{framework.ListenOn(":0"), framework.ServerOptions(grpc.Creds(nil))}, refused: true},
		"with TLS": {
			options: []framework.ServeOption{framework.ListenOn(":0"), framework.ServerOptions(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{own}})))},
		},
		"with option TLS":     {options: []framework.ServeOption{framework.ListenOn(":0"), withTLS(named(t, certtest.NewAuthority(t), "test.echo"))}},
		"credentials of none": {options: []framework.ServeOption{framework.ListenOn(":0"), framework.ServerOptions(grpc.Creds(insecure.NewCredentials()))}},
		"plain text is meant": {options: []framework.ServeOption{framework.ListenOn(":0"), framework.Insecure()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry, log := memory.New(), new(testlog.Log)
			service, err := framework.Start(t.Context(), registry, (&echo{}).register, append(test.options, framework.Logger(log.Logger()))...)
			if err == nil {
				err = service.Stop(t.Context())
				if test.refused {
					t.Fatal("it was served")
				}
			}
			const want = "which is not loopback, and speaks plain text, which others on the network can read and change: set option TLS, or Insecure if plain text is meant"
			if (err != nil) != test.refused || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %v, want one: %v", err, test.refused)
			}
			if log.Count("level=WARN") != 0 {
				t.Errorf("the log warns:\n%s", log)
			}
		})
	}
}

// elsewhere is a connection that reports an address on another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 443} }

func TestABusInPlainTextConnectsToLoopbackUnlessThatIsMeant(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		remote  bool
		options []framework.BusOption
		refused bool
	}{
		"on loopback":         {remote: false},
		"elsewhere":           {remote: true, refused: true},
		"plain text is meant": {remote: true, options: []framework.BusOption{framework.Insecure()}},
		"credentials of none": {remote: true, options: []framework.BusOption{framework.DialOptions(grpc.WithTransportCredentials(insecure.NewCredentials()))}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			serveReady(t, registry, &echo{})
			dial := framework.DialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
				if err == nil && test.remote {
					conn = elsewhere{conn}
				}
				return conn, err
			}))
			bus := newBus(t, registry, append(test.options, dial)...)
			for shape, call := range everyShape {
				err := call(t.Context(), bus, &testv1.EchoRequest{Text: "x"})
				if !test.refused {
					if err != nil {
						t.Errorf("%s: %v", shape, err)
					}
					continue
				}
				const want = "its address is not loopback, and the bus speaks plain text"
				if _, ok := errors.AsType[*framework.ConnectionError](err); !ok || !strings.Contains(err.Error(), want) ||
					status.Code(err) != codes.Unavailable || framework.OutcomeOf(err) != framework.NotSent {
					t.Errorf("%s: %v, want an error that says %q", shape, err, want)
				}
			}
		})
	}
}

func TestTLSAndPlainTextExcludeEachOther(t *testing.T) {
	t.Parallel()
	const want = "options TLS and Insecure: both are given"
	files := withTLS(named(t, certtest.NewAuthority(t), "test.echo"))
	if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, framework.Insecure(), files); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Serve = %v, want %q", err, want)
	}
	if _, err := framework.NewBus(memory.New(), files, framework.Insecure()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("NewBus = %v, want %q", err, want)
	}
}
