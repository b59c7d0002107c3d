package framework_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/ledgertest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/wire"
	"github.com/onecall-dev/onecall/internal/fixedport"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// balance returns the address of a balancer that sends each request to the next target,
// as nginx and HAProxy do.
func balance(t *testing.T, targets ...string) (address string) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	var next atomic.Int64
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(&url.URL{Scheme: "http", Host: targets[int(next.Add(1))%len(targets)]})
		},
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
	})
	server.Config.Protocols = protocols
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.Listener.Addr().String()
}

// nginxConf and haproxyConf are configurations of balancers: their address, and their two
// targets.
const (
	nginxConf = `daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {}
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream instances { server %[2]s; server %[3]s; }
  server {
    listen %[1]s http2;
    location / { grpc_pass grpc://instances; grpc_read_timeout 1h; grpc_send_timeout 1h; }
  }
}`
	haproxyConf = `defaults
  mode http
  timeout connect 1m
  timeout client 1h
  timeout server 1h
frontend callers
  bind %[1]s proto h2
  default_backend instances
backend instances
  balance roundrobin
  server first %[2]s proto h2
  server second %[3]s proto h2
`
)

// runBalancer returns what starts a balancer that is a program of the machine.
func runBalancer(program, conf string, args ...string) func(t *testing.T, targets ...string) (address string) {
	return func(t *testing.T, targets ...string) string {
		t.Helper()
		address, folder := fixedport.Address(t), t.TempDir()
		file := filepath.Join(folder, "conf")
		if err := os.WriteFile(file, fmt.Appendf(nil, conf, address, targets[0], targets[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		balancer := exec.CommandContext(t.Context(), program, append(args, file)...)
		balancer.Dir = folder
		if err := balancer.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = balancer.Wait() }) // it was killed
		eventually.True(t, program+" accepts connections", func() bool {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
		return address
	}
}

// serveBalanced returns what serves e by two instances with a ledger, behind a balancer
// whose clients' connections can be cut.
func serveBalanced(balance func(t *testing.T, targets ...string) string) func(*testing.T, *memory.Registry, *echo, ...framework.ServeOption) *wire.Proxy {
	return func(t *testing.T, registry *memory.Registry, e *echo, options ...framework.ServeOption) *wire.Proxy {
		t.Helper()
		proxy := wire.Start(t)
		options = append(options, framework.AdvertiseAs(proxy.Address()), framework.Admission(framework.AdmissionConfig{Ledger: new(ledgertest.Memory)}))
		var targets []string
		for range 2 {
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			targets = append(targets, listener.Addr().String())
			serve(t, registry, e, append([]framework.ServeOption{framework.Listener(listener)}, options...)...)
		}
		proxy.Forward(balance(t, targets...))
		return proxy
	}
}

// wantSettled fails if a call that ran is unknown. Only the instance that ran it has the
// reply, and the balancer may pick the other one.
func (c *cutting) wantSettled(got result, text string) {
	c.Helper()
	lost := status.Code(got.err) == codes.DataLoss && framework.OutcomeOf(got.err) == framework.Executed
	if !lost && (got.err != nil || got.text != text) {
		c.Errorf("the call = %.10q, %v; want the reply, or that it ran and its reply is lost", got.text, got.err)
	}
	if runs := c.runs.Load(); runs != 1 {
		c.Errorf("the handler ran %d times", runs)
	}
}

// TestBehindABalancerThatResetsConnectionsNoCallIsUnknown has a balancer of the Go
// library, and those that the machine has.
func TestBehindABalancerThatResetsConnectionsNoCallIsUnknown(t *testing.T) {
	t.Parallel()
	for name, balance := range map[string]func(*testing.T, ...string) string{
		"net/http": balance,
		"nginx":    runBalancer("nginx", nginxConf, "-p", ".", "-c"),
		"haproxy":  runBalancer("haproxy", haproxyConf, "-db", "-f"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(name); err != nil && name != "net/http" {
				t.Skipf("the machine has no %s", name)
			}
			testBalanced(t, serveBalanced(balance))
		})
	}
}

// testBalanced resets connections at each moment of a call.
func testBalanced(t *testing.T, serve func(*testing.T, *memory.Registry, *echo, ...framework.ServeOption) *wire.Proxy) {
	t.Helper()
	t.Run("while the reply is on its way", func(t *testing.T) {
		t.Parallel()
		eachCutBehind(t, serve, func(_ context.Context, c *cutting) (string, error) {
			c.proxy.HoldReplies()
			return "ran", nil
		}, func(c *cutting) { c.wantSettled(c.cutReply(), "ran") })
	})
	t.Run("while the handler runs", func(t *testing.T) {
		t.Parallel()
		eachCutBehind(t, serve, func(_ context.Context, c *cutting) (string, error) {
			<-c.goOn
			return "ran", nil
		}, func(c *cutting) { c.wantSettled(c.cutRunning(), "ran") })
	})
	t.Run("before the request arrived", func(t *testing.T) {
		t.Parallel()
		eachCutBehind(t, serve, func(context.Context, *cutting) (string, error) { return "ran", nil }, func(c *cutting) {
			if got := c.cutRequest(); got.err != nil || got.text != "ran" {
				c.Errorf("the call = %q, %v", got.text, got.err)
			}
			c.proxy.Deliver() // a balancer may drop it, because its client has gone
		})
	})
}

// TestAnotherInstanceAnswersForOneThatHasEnded has the instance end whose reply was lost.
func TestAnotherInstanceAnswersForOneThatHasEnded(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	admission := framework.Admission(framework.AdmissionConfig{Ledger: new(ledgertest.Memory)})
	ran := make(chan struct{}, 1)
	var runs atomic.Int64
	var proxy *wire.Proxy
	failing := &echo{soon: func(context.Context, string) (string, error) {
		runs.Add(1)
		proxy.HoldReplies()
		ran <- struct{}{}
		return "", status.Error(codes.NotFound, "there is no such user")
	}}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy = wire.Start(t)
	proxy.Forward(listener.Addr().String())
	key := make([]byte, 32)
	first := serve(t, registry, failing, framework.Listener(listener), framework.AdvertiseAs(proxy.Address()), admission)
	bus := newBus(t, registry, framework.TokenKey(key))
	ready(t, bus, "test.echo")
	before := timedOut(t, bus)
	if runs.Load() > 0 {
		<-ran
	}
	proxy.Close()
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	serve(t, registry, &echo{soon: counting(&runs)}, admission)
	token, err := framework.CallToken(before)
	if err != nil {
		t.Fatal(err)
	}
	other := newBus(t, registry, framework.TokenKey(key))
	for name, settle := range map[string]func() error{
		"by its bus": func() error { return bus.Settle(eventually.Context(t), before, new(testv1.EchoSoonResponse)) },
		"by a token": func() error { return other.SettleToken(eventually.Context(t), token, nil) },
		"once more":  func() error { return bus.Settle(eventually.Context(t), before, nil) },
	} {
		err := settle()
		want, code := framework.Executed, codes.NotFound
		if runs.Load() == 0 { // it did not arrive in time
			want, code = framework.Refused, codes.DeadlineExceeded
		}
		if framework.OutcomeOf(err) != want || status.Code(err) != code {
			t.Errorf("%s: Settle = %v, want %v, %v", name, err, want, code)
		}
	}
	if got := runs.Load(); got > 1 {
		t.Errorf("the handler ran %d times", got)
	}
	if stats := bus.Stats(); stats.Settled != 2 || stats.Unsettled != 0 {
		t.Errorf("Stats = %+v", stats)
	}
}
