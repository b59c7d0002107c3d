package framework_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/fixedport"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestWhyThereIsNoConnectionIsSaidByCallsAndReady uses one instance, to which a bus
// cannot connect for different reasons, one after the other.
func TestWhyThereIsNoConnectionIsSaidByCallsAndReady(t *testing.T) {
	t.Parallel()
	own, pool := certificate(t, "test.echo")
	other, otherPool := certificate(t, "localhost")
	serverTLS := func(config *tls.Config) framework.ServeOption {
		config.MinVersion = tls.VersionTLS13
		return framework.ServerOptions(grpc.Creds(credentials.NewTLS(config)))
	}
	busTLS := func(pool *x509.CertPool) framework.BusOption {
		return framework.DialOptions(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})))
	}
	for name, test := range map[string]struct {
		serve []framework.ServeOption // nil when the API is not served
		bus   []framework.BusOption
		want  []string
	}{
		"TLS at the service only": {
			[]framework.ServeOption{serverTLS(&tls.Config{Certificates: []tls.Certificate{own}})},
			nil,
			[]string{"ended the connection before it said anything", "TLS, which this bus does not", "set option TLS"},
		},
		"TLS at the caller only": {
			[]framework.ServeOption{},
			[]framework.BusOption{busTLS(pool)},
			[]string{"answers in plain text, and this bus speaks TLS", "serve it with option TLS"},
		},
		"a certificate of another name": {
			[]framework.ServeOption{serverTLS(&tls.Config{Certificates: []tls.Certificate{other}})},
			[]framework.BusOption{busTLS(otherPool)},
			[]string{"certificate is valid for localhost, not test.echo", "issue one for the API's name, test.echo"},
		},
		"a certificate of a stranger": {
			[]framework.ServeOption{serverTLS(&tls.Config{Certificates: []tls.Certificate{own}})},
			[]framework.BusOption{busTLS(otherPool)},
			[]string{"its certificate is not trusted", "the file CA of option TLS"},
		},
		"a client's certificate is demanded": {
			[]framework.ServeOption{serverTLS(&tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})},
			[]framework.BusOption{busTLS(pool)},
			[]string{"certificate"}, // the alert that says so may be lost when the connection ends
		},
		"nobody listens": {nil, nil, []string{"nothing listens there", "AdvertiseAs", "connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			if test.serve != nil {
				serve(t, registry, &echo{}, test.serve...)
			} else {
				discoverytest.Register(t, registry, discovery.Instance{API: "test.echo", Address: fixedport.Address(t)})
			}
			address := serving(t, registry, 1)[0].Address
			bus := newBus(t, registry, append(test.bus, framework.Retry(framework.RetryNone))...)
			_, called := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
			for from, err := range map[string]error{"a call": called, "Ready": unready(t, bus, test.want[0])} {
				t.Run(from, func(t *testing.T) {
					unconnected, ok := errors.AsType[*framework.ConnectionError](err)
					if !ok || len(unconnected.Instances) != 1 || unconnected.Instances[0].Address != address {
						t.Errorf("the error is %v (%T)", err, err)
					}
					for _, want := range append(test.want, address) {
						if !strings.Contains(err.Error(), want) {
							t.Errorf("the error is %v, want one that says %q", err, want)
						}
					}
				})
			}
			if status.Code(called) != codes.Unavailable || framework.OutcomeOf(called) != framework.NotSent {
				t.Errorf("a call = %v", called)
			}
			if strings.Contains(status.Convert(called).Message(), address) {
				t.Errorf("the status, which may be passed on, has an address: %v", status.Convert(called).Message())
			}
		})
	}
}

// unready returns the error of Ready when it has the wanted text, and after 20 s in any
// case.
func unready(t *testing.T, bus *framework.Bus, want string) (err error) {
	t.Helper()
	for wait := 10 * time.Millisecond; wait < 20*time.Second; wait *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		err = bus.Ready(ctx, "test.echo")
		cancel()
		if err != nil && strings.Contains(err.Error(), want) {
			break
		}
	}
	return err
}

// TestAnErrorOfTimeSaysWhetherThereWasAConnection uses an instance that accepts
// connections and sends nothing, and one that does not reply.
func TestAnErrorOfTimeSaysWhetherThereWasAConnection(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	registry := memory.New()
	discoverytest.Register(t, registry, discovery.Instance{API: "test.echo", Address: listener.Addr().String()})
	bus := newBus(t, registry)
	_, err = testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(300*time.Millisecond))
	if want := "no connection to an instance within 300ms, the call's Timeout option"; err == nil || !strings.Contains(err.Error(), want) ||
		!strings.Contains(err.Error(), listener.Addr().String()+": it was not reached yet") || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a call of an instance that says nothing = %v, want %q", err, want)
	}

	registry = memory.New()
	serve(t, registry, &echo{echo: func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}})
	bus = newBus(t, registry)
	ready(t, bus, "test.echo")
	_, err = testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(300*time.Millisecond))
	if want := "no reply from " + serving(t, registry, 1)[0].Address + " within 300ms"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a call of an instance that does not reply = %v, want %q", err, want)
	}
}

// TestTheFirstCauseSurvivesARetry cuts off a call whose RPC may run again, while there is
// no other instance.
func TestTheFirstCauseSurvivesARetry(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	began := make(chan struct{}, 8)
	running := serve(t, registry, &echo{echo: func(ctx context.Context, _ string) (string, error) {
		began <- struct{}{}
		<-ctx.Done()
		return "", ctx.Err()
	}}, framework.ShutdownTimeout(time.Second))
	address := serving(t, registry, 1)[0].Address
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	ended := make(chan error, 1)
	go func() {
		_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
		ended <- err
	}()
	<-began
	_ = running.stop() // which says that a call was cut off
	err := <-ended
	for _, want := range []string{address, "broke"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the call = %v, want an error that says %q", err, want)
		}
	}
	if framework.OutcomeOf(err) != framework.Unknown {
		t.Errorf("the outcome of %v is %v", err, framework.OutcomeOf(err))
	}
}
