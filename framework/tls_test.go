package framework_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	"github.com/onecall-dev/onecall/telemetry"
)

// withTLS returns option TLS with files.
func withTLS(files certtest.Files) framework.Option {
	return framework.TLS(framework.TLSFiles{CA: files.CA, Cert: files.Cert, Key: files.Key})
}

// named returns files of a certificate with DNS names.
func named(t *testing.T, authority *certtest.Authority, names ...string) certtest.Files {
	t.Helper()
	files, _ := authority.Write(t, certtest.Leaf{Names: names})
	return files
}

func TestEveryShapeRunsOverTLS(t *testing.T) {
	t.Parallel()
	authority, registry := certtest.NewAuthority(t), memory.New()
	serve(t, registry, &echo{}, withTLS(named(t, authority, "test.echo", "onecall.test.v1.PlainService")))
	bus := newBus(t, registry, withTLS(named(t, authority, "shop")))
	ready(t, bus, "test.echo", "onecall.test.v1.PlainService")
	for shape, call := range everyShape {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			if err := call(t.Context(), bus, &testv1.EchoRequest{Text: "x"}); err != nil {
				t.Error(err)
			}
		})
	}
	for title, call := range map[string]func() error{
		"by name": func() error {
			_, err := bus.Call(t.Context(), "test.echo.echo", framework.Args{"text": "x"})
			return err
		},
		"asynchronous": func() error {
			_, err := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}).Await(t.Context())
			return err
		},
		"another API of the instance": func() error {
			_, err := testv1.NewPlainServiceClient(bus).Ping(t.Context(), &testv1.PingRequest{})
			return err
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if err := call(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAConnectionThatIsRefusedSaysWhy has services and buses that do not fit. The bus says
// why in its errors, and the service in its log.
func TestAConnectionThatIsRefusedSaysWhy(t *testing.T) {
	t.Parallel()
	authority, other := certtest.NewAuthority(t), certtest.NewAuthority(t)
	own := withTLS(named(t, authority, "test.echo"))
	foreign := named(t, other, "test.echo")
	foreign.CA = named(t, authority).CA
	raw := func(leaf certtest.Leaf) *tls.Config {
		pool := x509.NewCertPool()
		pool.AddCert(authority.Certificate)
		return &tls.Config{
			Certificates: []tls.Certificate{authority.Issue(t, leaf)}, RootCAs: pool, ClientCAs: pool,
			ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
		}
	}
	rawBus := func(leaf certtest.Leaf) framework.BusOption {
		return framework.DialOptions(grpc.WithTransportCredentials(credentials.NewTLS(raw(leaf))))
	}
	rawService := func(leaf certtest.Leaf) framework.ServeOption {
		return framework.ServerOptions(grpc.Creds(credentials.NewTLS(raw(leaf))))
	}
	past := certtest.Leaf{Names: []string{"test.echo"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
	future := certtest.Leaf{Names: []string{"test.echo"}, NotBefore: time.Now().Add(time.Hour)}
	for name, test := range map[string]struct {
		serve []framework.ServeOption
		bus   []framework.BusOption
		want  []string
		log   string
	}{
		"the bus does not trust the service": {
			[]framework.ServeOption{own},
			[]framework.BusOption{withTLS(named(t, other, "shop"))},
			[]string{"its certificate is not trusted", "the file CA of option TLS"},
			"its client refused the certificate of this service",
		},
		"the service does not trust the bus": {
			[]framework.ServeOption{own},
			[]framework.BusOption{withTLS(foreign)},
			[]string{"it refused the certificate of this bus", "unknown certificate authority"},
			"no authority in the CA file has signed the certificate of its client",
		},
		"the bus has no certificate": {
			[]framework.ServeOption{own},
			[]framework.BusOption{framework.TLS(framework.TLSFiles{CA: foreign.CA})},
			[]string{"or that there is none", "certificate required", "set Cert and Key in option TLS"},
			"its client sent no certificate",
		},
		"another name": {
			[]framework.ServeOption{withTLS(named(t, authority, "auth"))},
			[]framework.BusOption{withTLS(named(t, authority, "shop"))},
			[]string{"certificate is valid for auth, not test.echo", "issue one for the API's name, test.echo"},
			"its client refused the certificate of this service",
		},
		"the bus's certificate has expired": {
			[]framework.ServeOption{own},
			[]framework.BusOption{rawBus(past)},
			[]string{"it refused the certificate of this bus", "expired certificate"},
			"the certificate of its client is not valid",
		},
		"the bus's certificate is not valid yet": {
			[]framework.ServeOption{own},
			[]framework.BusOption{rawBus(future)},
			[]string{"it refused the certificate of this bus", "expired certificate"}, // TLS has one alert for both
			"is before",
		},
		"the service's certificate has expired": {
			[]framework.ServeOption{rawService(past)},
			[]framework.BusOption{withTLS(named(t, authority, "shop"))},
			[]string{"its certificate is not valid", "has expired", "is after"},
			"",
		},
		"the service's certificate is not valid yet": {
			[]framework.ServeOption{rawService(future)},
			[]framework.BusOption{withTLS(named(t, authority, "shop"))},
			[]string{"its certificate is not valid", "not yet valid", "is before"},
			"",
		},
		"plain text to TLS": {
			[]framework.ServeOption{own},
			nil,
			[]string{"TLS, which this bus does not", "set option TLS"},
			"its client speaks no TLS",
		},
		"TLS to plain text": {
			nil,
			[]framework.BusOption{withTLS(named(t, authority, "shop"))},
			[]string{"answers in plain text, and this bus speaks TLS"},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry, log := memory.New(), new(testlog.Log)
			serve(t, registry, &echo{}, append(test.serve, framework.Logger(log.Logger()))...)
			bus := newBus(t, registry, append(test.bus, framework.Retry(framework.RetryNone))...)
			err := unready(t, bus, test.want[0])
			_, called := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
			if framework.OutcomeOf(called) != framework.NotSent || status.Code(called) != codes.Unavailable {
				t.Errorf("a call = %v", called)
			}
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Ready = %v, want an error that says %q", err, want)
				}
			}
			if test.log != "" && !t.Failed() {
				log.Until(t, test.log, 1)
			}
		})
	}
}

func TestACallerWithoutACertificateIsAcceptedIfThatIsWanted(t *testing.T) {
	t.Parallel()
	authority, other, registry := certtest.NewAuthority(t), certtest.NewAuthority(t), memory.New()
	files := named(t, authority, "test.echo")
	serve(t, registry, &echo{}, framework.TLS(framework.TLSFiles{CA: files.CA, Cert: files.Cert, Key: files.Key, AllowAnonymous: true}))
	bus := newBus(t, registry, framework.TLS(framework.TLSFiles{CA: files.CA}))
	ready(t, bus, "test.echo")
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Error(err)
	}
	foreign := named(t, other, "shop")
	foreign.CA = files.CA
	const want = "unknown certificate authority"
	if err := unready(t, newBus(t, registry, withTLS(foreign)), want); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("with a certificate of a stranger Ready = %v, want %q", err, want)
	}
}

func TestABadOptionTLSIsAnErrorAtTheStart(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	files, other := named(t, authority, "test.echo"), named(t, authority, "test.echo")
	past, _ := authority.Write(t, certtest.Leaf{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	option := func(ca, cert, key string) []framework.Option {
		return []framework.Option{framework.TLS(framework.TLSFiles{CA: ca, Cert: cert, Key: key})}
	}
	for want, options := range map[string][]framework.Option{
		"option TLS: CA is empty":                                     option("", files.Cert, files.Key),
		"option TLS: Cert is empty though Key is set":                 option(files.CA, "", files.Key),
		"option TLS: Key is empty though Cert is set":                 option(files.CA, files.Cert, ""),
		"option TLS: open /no/such/file: no such file or directory":   option(files.CA, "/no/such/file", files.Key),
		"option TLS: open /no/such/ca: no such file or directory":     option("/no/such/ca", files.Cert, files.Key),
		"tls: private key does not match public key":                  option(files.CA, files.Cert, other.Key),
		"option TLS: " + files.Key + ": it has no certificate in PEM": option(files.Key, files.Cert, files.Key),
		"the certificate has expired at ":                             {withTLS(past)},
		"option TLS: is given twice":                                  {withTLS(files), withTLS(files)},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var service []framework.ServeOption
			var bus []framework.BusOption
			for _, option := range options {
				service, bus = append(service, option), append(bus, option)
			}
			if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, service...); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Serve = %v, want an error that says %q", err, want)
			}
			if _, err := framework.NewBus(memory.New(), bus...); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("NewBus = %v, want an error that says %q", err, want)
			}
		})
	}
	for want, option := range map[string]framework.ServeOption{
		"option TLS: Cert and Key are empty":                  framework.TLS(framework.TLSFiles{CA: files.CA}),
		"option TLS: option ServerOptions has grpc.Creds too": framework.ServerOptions(grpc.Creds(insecure.NewCredentials())),
	} {
		if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, option, withTLS(files)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Serve = %v, want an error that says %q", err, want)
		}
	}
	const want = "option TLS: option DialOptions has credentials too"
	if _, err := framework.NewBus(memory.New(), withTLS(files), framework.DialOptions(grpc.WithTransportCredentials(insecure.NewCredentials()))); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("NewBus = %v, want an error that says %q", err, want)
	}
}

// calledAnew makes a call on a new connection, and returns the certificate of the instance.
func calledAnew(t *testing.T, registry *memory.Registry, files certtest.Files) *x509.Certificate {
	t.Helper()
	bus, err := framework.NewBus(registry, quiet, withTLS(files))
	if err != nil {
		t.Error(err)
		return nil
	}
	defer bus.Close()
	var from peer.Peer
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}, grpc.Peer(&from), framework.Timeout(time.Minute)); err != nil {
		t.Errorf("a call on a new connection: %v", err)
		return nil
	}
	return from.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0]
}

// TestCallsGoOnOverARotation replaces the files of a service one by one, as a rotation does
// in its worst order, first of its certificate and then of both authorities.
func TestCallsGoOnOverARotation(t *testing.T) {
	t.Parallel()
	authority, next, registry := certtest.NewAuthority(t), certtest.NewAuthority(t), memory.New()
	service, first := authority.Write(t, certtest.Leaf{Names: []string{"test.echo"}})
	caller := named(t, authority, "shop")
	log := new(testlog.Log)
	serve(t, registry, &echo{}, withTLS(service), framework.Logger(log.Logger()))
	serving(t, registry, 1)
	lasting := testv1.NewEchoServiceClient(newBus(t, registry, withTLS(caller)))
	renewed := authority.Issue(t, certtest.Leaf{Names: []string{"test.echo"}})
	moved := next.Issue(t, certtest.Leaf{Names: []string{"test.echo"}})
	shop := next.Issue(t, certtest.Leaf{Names: []string{"shop"}})
	both := certtest.PEM(authority.Certificate, next.Certificate)
	for _, step := range []struct {
		file    string
		content []byte
		want    *x509.Certificate
		log     string
	}{
		{service.Cert, certtest.PEM(renewed.Leaf)[:200], first, "a block in it is not complete"},
		{service.Cert, certtest.PEM(renewed.Leaf), first, "private key does not match public key"},
		{service.Key, certtest.KeyPEM(t, renewed), renewed.Leaf, "using the certificates of option TLS"},
		{service.CA, nil, renewed.Leaf, "no certificate in PEM"},
		{service.CA, both, renewed.Leaf, "using the certificates of option TLS"},
		{caller.CA, both, renewed.Leaf, ""},
		{service.Key, certtest.KeyPEM(t, moved), renewed.Leaf, "private key does not match public key"},
		{service.Cert, certtest.PEM(moved.Leaf), moved.Leaf, ""},
		{caller.Cert, certtest.PEM(shop.Leaf), nil, ""},
		{caller.Key, certtest.KeyPEM(t, shop), moved.Leaf, ""},
		{service.CA, certtest.PEM(next.Certificate), moved.Leaf, ""},
		{caller.CA, certtest.PEM(next.Certificate), moved.Leaf, ""},
	} {
		certtest.Store(t, step.file, step.content)
		if step.want == nil { // no bus can begin with these
			continue
		}
		if got := calledAnew(t, registry, caller); got == nil || !got.Equal(step.want) {
			t.Fatalf("after a write of %s the service has the certificate %v, want %v", step.file, got.SerialNumber, step.want.SerialNumber)
		}
		if _, err := lasting.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
			t.Errorf("on the connection that lasts: %v", err)
		}
		if step.log != "" && log.Count(step.log) == 0 {
			t.Errorf("the log does not say %q:\n%s", step.log, log)
		}
	}
}

// TestNoHandshakeFailsWhileFilesAreReplaced writes the files of a service again and again,
// in place and not at once, while others connect.
func TestNoHandshakeFailsWhileFilesAreReplaced(t *testing.T) {
	t.Parallel()
	authority, registry := certtest.NewAuthority(t), memory.New()
	service, caller := named(t, authority, "test.echo"), named(t, authority, "shop")
	serve(t, registry, &echo{}, withTLS(service))
	serving(t, registry, 1)
	var over atomic.Bool
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for !over.Load() {
				calledAnew(t, registry, caller)
			}
		})
	}
	for range 30 {
		issued := authority.Issue(t, certtest.Leaf{Names: []string{"test.echo"}})
		certtest.Store(t, service.CA, certtest.PEM(authority.Certificate, certtest.NewAuthority(t).Certificate))
		certtest.Store(t, service.Cert, certtest.PEM(issued.Leaf))
		certtest.Store(t, service.Key, certtest.KeyPEM(t, issued))
		if got := calledAnew(t, registry, caller); got == nil || !got.Equal(issued.Leaf) {
			t.Error("the last certificate is not in use")
		}
	}
	over.Store(true)
	callers.Wait()
}

// TestAnAuthorityThatIsRemovedAllowsNoSession resumes a session of TLS before and after the
// authority of its client is removed.
func TestAnAuthorityThatIsRemovedAllowsNoSession(t *testing.T) {
	t.Parallel()
	authority, old, registry := certtest.NewAuthority(t), certtest.NewAuthority(t), memory.New()
	service := named(t, authority, "test.echo")
	certtest.Store(t, service.CA, certtest.PEM(authority.Certificate, old.Certificate))
	serve(t, registry, &echo{}, withTLS(service))
	address := serving(t, registry, 1)[0].Address
	pool := x509.NewCertPool()
	pool.AddCert(authority.Certificate)
	config := &tls.Config{
		Certificates: []tls.Certificate{old.Issue(t, certtest.Leaf{Names: []string{"shop"}})}, RootCAs: pool, ServerName: "test.echo",
		NextProtos: []string{"h2"}, ClientSessionCache: tls.NewLRUClientSessionCache(1), MinVersion: tls.VersionTLS13,
	}
	connect := func() (resumed bool, err error) {
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1)) // the server's settings, behind its ticket
		return conn.ConnectionState().DidResume, err
	}
	for i, want := range []bool{false, true} {
		if resumed, err := connect(); err != nil || resumed != want {
			t.Errorf("connection %d is resumed: %v, %v; want %v", i+1, resumed, err, want)
		}
	}
	certtest.Store(t, service.CA, certtest.PEM(authority.Certificate))
	if resumed, err := connect(); err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
		t.Errorf("after its authority was removed the client is connected, resumed: %v, %v", resumed, err)
	}
}

// certificateEvents returns how many events of certificates there were, and the last
// change.
func certificateEvents(seen *recorder) (changed, expires int, last framework.CertificateChanged) {
	changes := observed[framework.CertificateChanged](seen)
	return len(changes), len(observed[framework.CertificateExpiring](seen)), changes[len(changes)-1]
}

func TestTheExpiryOfACertificateIsWarnedOf(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for side, start := range map[string]func(t *testing.T, options ...framework.Option) (stop func()){
		"a service": func(t *testing.T, options ...framework.Option) func() {
			t.Helper()
			given := []framework.ServeOption{quiet, framework.Listener(bufconn.Listen(1)), framework.AdvertiseAs("10.0.0.1:443")}
			for _, option := range options {
				given = append(given, option)
			}
			service, err := framework.Start(t.Context(), memory.New(), (&echo{}).register, given...)
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = service.Stop(t.Context()) }
		},
		"a bus": func(t *testing.T, options ...framework.Option) func() {
			t.Helper()
			var given []framework.BusOption
			for _, option := range options {
				given = append(given, option)
			}
			bus, err := framework.NewBus(memory.New(), given...)
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = bus.Close() }
		},
	} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				authority, log, seen := certtest.NewAuthority(t), new(testlog.Log), new(recorder)
				ends := time.Now().Add(30*day + time.Hour).Truncate(time.Second)
				files, _ := authority.Write(t, certtest.Leaf{Names: []string{"test.echo"}, NotBefore: ends.AddDate(-1, 0, 0), NotAfter: ends})
				metrics := telemetry.New()
				flags := func() string {
					return fmt.Sprint(valuesOf(metrics, telemetry.TLSExpiring)[""], valuesOf(metrics, telemetry.TLSUnusable)[""])
				}
				// The files are read at the same times, every 10 s.
				pass := func(length time.Duration) {
					time.Sleep(length)
					synctest.Wait()
				}
				stop := start(t, withTLS(files), framework.Logger(log.Logger()), framework.Observe(seen), framework.Metrics(metrics))
				defer stop()
				synctest.Wait()
				if got := flags(); got != "0 0" {
					t.Errorf("the metrics are %s", got)
				}
				if changed, expires, last := certificateEvents(seen); changed != 1 || expires != 0 || last.Err != nil || !last.Expires.Equal(ends) {
					t.Errorf("at the start: %d changes, %d warnings, %+v; want one change, to %v", changed, expires, last, ends)
				}
				pass(day + 2*time.Hour)
				if _, expires, _ := certificateEvents(seen); expires != 2 || log.Count("expires soon: renew it") != 2 || !observed[framework.CertificateExpiring](seen)[0].Expires.Equal(ends) {
					t.Errorf("on the second day: %d warnings, want 2:\n%s", expires, log)
				}
				if got := flags(); got != "1 0" {
					t.Errorf("when it expires soon the metrics are %s", got)
				}
				if err := os.Remove(files.Key); err != nil {
					t.Fatal(err)
				}
				pass(time.Minute)
				if got := flags(); got != "1 1" {
					t.Errorf("without the key the metrics are %s", got)
				}
				if changed, _, last := certificateEvents(seen); changed != 2 || last.Err == nil || !last.Expires.Equal(ends) || log.Count("cannot be used: the last good ones stay in use") != 1 {
					t.Errorf("without the key: %d changes, %+v:\n%s", changed, last, log)
				}
				brief := authority.Issue(t, certtest.Leaf{Names: []string{"test.echo"}, NotBefore: time.Now(), NotAfter: time.Now().Add(8 * time.Hour)})
				certtest.Store(t, files.Cert, certtest.PEM(brief.Leaf))
				certtest.Store(t, files.Key, certtest.KeyPEM(t, brief))
				pass(6*time.Hour - time.Minute)
				if changed, expires, last := certificateEvents(seen); changed != 3 || expires != 2 || last.Err != nil || !last.Expires.Equal(brief.Leaf.NotAfter) {
					t.Errorf("one for 8 hours, after 6: %d changes, %d warnings, %+v", changed, expires, last)
				}
				pass(3 * time.Hour)
				if _, expires, _ := certificateEvents(seen); expires != 4 || log.Count("has expired, so the other side refuses it") != 1 {
					t.Errorf("after 9 hours: %d warnings, want 4:\n%s", expires, log)
				}
			})
		})
	}
}

// TestAServiceWithAnExpiredCertificateIsRefused lets it expire while the service runs.
func TestAServiceWithAnExpiredCertificateIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		authority, registry, listener := certtest.NewAuthority(t), memory.New(), bufconn.Listen(1<<20)
		files, _ := authority.Write(t, certtest.Leaf{Names: []string{"test.echo"}, NotAfter: time.Now().Add(time.Hour)})
		caller := withTLS(named(t, authority, "shop"))
		serve(t, registry, &echo{}, withTLS(files), framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"))
		dial := framework.DialOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
		call := func(bus *framework.Bus) error {
			_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
			return err
		}
		before := newBus(t, registry, caller, dial)
		ready(t, before, "test.echo")
		if err := call(before); err != nil {
			t.Fatal(err)
		}
		for range 12 { // so that the connection does not become idle
			time.Sleep(10 * time.Minute)
			if err := call(before); err != nil {
				t.Errorf("on the connection from before: %v", err)
			}
		}
		if err := call(newBus(t, registry, caller, dial)); err == nil || !strings.Contains(err.Error(), "its certificate is not valid") || framework.OutcomeOf(err) != framework.NotSent {
			t.Errorf("after it has expired a call = %v", err)
		}
		renewed := authority.Issue(t, certtest.Leaf{Names: []string{"test.echo"}})
		certtest.Store(t, files.Cert, certtest.PEM(renewed.Leaf))
		certtest.Store(t, files.Key, certtest.KeyPEM(t, renewed))
		if err := call(newBus(t, registry, caller, dial)); err != nil {
			t.Errorf("after its renewal a call = %v", err)
		}
	})
}
