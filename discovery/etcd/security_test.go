package etcd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
)

// openWith opens a registry as config says, for the length of the test.
func openWith(t *testing.T, config etcd.Config) *etcd.Registry {
	t.Helper()
	config.Namespace = newNamespace()
	config.Logger = slog.New(slog.DiscardHandler)
	config.TTL = openedTTL
	registry, err := etcd.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry
}

// wantUnreachable watches until etcd is unreachable for this reason: at first a busy
// machine may have had no answer at all.
func wantUnreachable(t *testing.T, registry *etcd.Registry, reason string) {
	t.Helper()
	discoverytest.Watch(t, registry, "auth").Until(t, fmt.Sprintf("an UnreachableError that says %q", reason), func(s discovery.Snapshot) bool {
		return errors.As(s.Err(), new(*discovery.UnreachableError)) && strings.Contains(s.Err().Error(), reason)
	})
}

// withUsers starts an etcd that asks for a password, which is "pw": of root, and of
// users that may read and write some APIs.
func withUsers(t *testing.T, users map[string][]string) (server *embed.Server, root *clientv3.Client) {
	t.Helper()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	server, err := embed.Start(t.Context(), embed.Config{})
	must(nil, err)
	t.Cleanup(func() { _ = server.Close() })
	direct := client(t, server)
	add := func(user string, prefixes ...string) {
		must(direct.RoleAdd(t.Context(), user))
		for _, prefix := range prefixes {
			must(direct.RoleGrantPermission(t.Context(), user, prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite)))
		}
		must(direct.UserAdd(t.Context(), user, "pw"))
		must(direct.UserGrantRole(t.Context(), user, user))
	}
	add("root")
	for user, apis := range users {
		var prefixes []string
		for _, api := range apis {
			prefixes = append(prefixes, "onecall/apis/"+api+"/", "onecall/schemas/"+api+"/", "onecall/known/"+api)
		}
		add(user, prefixes...)
	}
	must(direct.AuthEnable(t.Context()))
	root, err = clientv3.New(clientv3.Config{Endpoints: server.Endpoints(), Username: "root", Password: "pw", Logger: zap.NewNop()})
	must(nil, err)
	t.Cleanup(func() { _ = root.Close() })
	return server, root
}

// openAs opens a registry as one of these users, for the length of the test. Its leases
// last longer than those of others, since no busy machine may lose one.
func openAs(t *testing.T, server *embed.Server, user string) *etcd.Registry {
	t.Helper()
	registry, err := etcd.Open(etcd.Config{
		Endpoints: server.Endpoints(), Username: user, Password: "pw", TTL: 3 * openedTTL, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry
}

func TestUserAndPasswordOpenEtcd(t *testing.T) {
	t.Parallel()
	server, _ := withUsers(t, nil)
	registry := openWith(t, etcd.Config{Endpoints: server.Endpoints(), Username: "root", Password: "pw"})
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, registry, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")

	wantUnreachable(t, openWith(t, etcd.Config{Endpoints: server.Endpoints(), Username: "root", Password: "wrong"}), "authentication failed")
	wantUnreachable(t, openWith(t, etcd.Config{Endpoints: server.Endpoints()}), "user name is empty")
}

// TestATokenThatExpiresIsReplaced has etcd forget the tokens of a user while its
// connection and its watch last.
func TestATokenThatExpiresIsReplaced(t *testing.T) {
	t.Parallel()
	server, root := withUsers(t, map[string][]string{"service": {"auth", "billing"}})
	registry := openAs(t, server, "service")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, registry, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")

	must(root.UserChangePassword(t.Context(), "service", "pw")) // the tokens of the old one are void
	must(root.Delete(t.Context(), "onecall/apis/auth/", clientv3.WithPrefix()))
	eventually.True(t, "registered again", oneLiveKey(t, root, "auth"))
	watched.UntilAddresses(t, "10.0.0.1:1")

	must(root.UserChangePassword(t.Context(), "service", "pw"))
	discoverytest.Watch(t, registry, "billing").Until(t, "an answer about another API", func(s discovery.Snapshot) bool {
		return errors.As(s.Err(), new(*discovery.UnknownAPIError))
	})
	must(root.UserChangePassword(t.Context(), "service", "pw"))
	must(root.Put(t.Context(), "onecall/apis/auth/another", `{"Op":0,"Addr":"10.0.0.2:1"}`))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")
	must(root.Put(t.Context(), "onecall/apis/billing/another", `{"Op":0,"Addr":"10.0.0.2:1"}`))
	discoverytest.Watch(t, registry, "billing").UntilAddresses(t, "10.0.0.2:1")
	before := registration.Status().Expires
	must(root.UserChangePassword(t.Context(), "service", "pw"))
	eventually.True(t, "kept alive", func() bool { return registration.Status().Expires.After(before) })
	if _, alive := live(t, root, "auth"); alive != 1 {
		t.Errorf("%d keys have a lease that lives, want one", alive)
	}
}

func TestTLSAndClientCertificatesReachEtcd(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t)
	endpoint, _ := tlsFront(t, shared, &tls.Config{
		Certificates: []tls.Certificate{authority.issue(t, "127.0.0.1")},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    authority.pool,
		NextProtos:   []string{"h2"},
		MinVersion:   tls.VersionTLS13,
	})
	registry := openWith(t, etcd.Config{Endpoints: []string{endpoint}, TLS: &tls.Config{
		RootCAs:      authority.pool,
		Certificates: []tls.Certificate{authority.issue(t, "service")},
		MinVersion:   tls.VersionTLS13,
	}})
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	discoverytest.Watch(t, registry, "auth").UntilAddresses(t, "10.0.0.1:1")

	wantUnreachable(t, openWith(t, etcd.Config{Endpoints: []string{endpoint}}), "certificate signed by unknown authority")
	// Without a certificate of its own the client is cut off after its
	// handshake, in words that depend on who is first.
	wantUnreachable(t, openWith(t, etcd.Config{Endpoints: []string{endpoint}, TLS: &tls.Config{RootCAs: authority.pool, MinVersion: tls.VersionTLS13}}), "etcd at "+endpoint)
}

// TestCertificatesAreReplacedWithoutARestart has etcd and its client go over to
// another authority while they are connected.
func TestCertificatesAreReplacedWithoutARestart(t *testing.T) {
	t.Parallel()
	old, next := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	config := etcd.Config{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	old.write(t, config)
	var current atomic.Pointer[tls.Config]
	use := func(a authority) {
		current.Store(&tls.Config{
			Certificates: []tls.Certificate{a.issue(t, "127.0.0.1")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool,
			NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		})
	}
	use(old)
	endpoint, cut := tlsFront(t, shared, &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.Load(), nil }, MinVersion: tls.VersionTLS13,
	})
	config.Endpoints = []string{endpoint}
	registry := openWith(t, config)
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, registry, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")

	use(next)
	cut()
	watched.Until(t, "an etcd that nobody trusts any more", func(s discovery.Snapshot) bool {
		return s.Unreachable != nil && strings.Contains(s.Unreachable.Error(), "unknown authority")
	})
	next.write(t, config)
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.2:1"))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")

	// A file that is being written is passed over.
	if err := os.WriteFile(config.CAFile, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	cut()
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.3:1"))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")
}

func TestWithFilesTheNameInEtcdsCertificateIsChecked(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t)
	config := etcd.Config{CAFile: filepath.Join(t.TempDir(), "ca.pem")}
	authority.write(t, config)
	endpoint, _ := tlsFront(t, shared, &tls.Config{
		Certificates: []tls.Certificate{authority.issue(t, "127.0.0.2")}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
	})
	config.Endpoints = []string{endpoint}
	wantUnreachable(t, openWith(t, config), "valid for 127.0.0.2, not 127.0.0.1")
}

func TestBadCertificateFilesAreErrorsThatNameTheField(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := etcd.Config{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	newAuthority(t).write(t, good)
	other := filepath.Join(t.TempDir(), "key.pem")
	newAuthority(t).write(t, etcd.Config{CAFile: filepath.Join(dir, "other.pem"), CertFile: filepath.Join(dir, "other-cert.pem"), KeyFile: other})
	for name, test := range map[string]struct {
		config etcd.Config
		field  string
	}{
		"a certificate alone":     {etcd.Config{CertFile: good.CertFile}, "KeyFile"},
		"a key alone":             {etcd.Config{KeyFile: good.KeyFile}, "CertFile"},
		"another's key":           {etcd.Config{CertFile: good.CertFile, KeyFile: other}, "CertFile"},
		"no such certificate":     {etcd.Config{CertFile: dir + "/none", KeyFile: good.KeyFile}, "CertFile"},
		"no such authority":       {etcd.Config{CAFile: dir + "/none"}, "CAFile"},
		"a key for authority":     {etcd.Config{CAFile: good.KeyFile}, "CAFile"},
		"files and configuration": {etcd.Config{CAFile: good.CAFile, TLS: &tls.Config{MinVersion: tls.VersionTLS13}}, "TLS"},
		"files for http":          {etcd.Config{CAFile: good.CAFile, Endpoints: []string{"http://127.0.0.1:2379"}}, "CAFile"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.config.Endpoints == nil {
				test.config.Endpoints = []string{"https://127.0.0.1:2379"}
			}
			registry, err := etcd.Open(test.config)
			var configError *etcd.ConfigError
			if !errors.As(err, &configError) || configError.Field != test.field {
				t.Errorf("with %s Open = %v, want a ConfigError that names %s", name, err, test.field)
			}
			if registry != nil {
				_ = registry.Close()
			}
		})
	}
}

// TestARoleForItsOwnAPIIsEnough makes the roles of docs/discovery.md by the commands that it
// shows.
func TestARoleForItsOwnAPIIsEnough(t *testing.T) {
	t.Parallel()
	server, root := withUsers(t, nil)
	page, err := os.ReadFile("../../docs/discovery.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for line := range strings.Lines(string(page)) {
		if arguments, found := strings.CutPrefix(line, "etcdctl role "); found {
			commands++
			etcdctlRole(t, root, strings.Fields(arguments))
		}
	}
	if commands == 0 {
		t.Fatal("the page has no commands")
	}
	for user, role := range map[string]string{"auth": "serve-auth", "caller": "call"} {
		if _, err := root.UserAdd(t.Context(), user, "pw"); err != nil {
			t.Fatal(err)
		}
		if _, err := root.UserGrantRole(t.Context(), user, role); err != nil {
			t.Fatal(err)
		}
	}
	service, caller := openAs(t, server, "auth"), openAs(t, server, "caller")
	instance := discoverytest.Instance("auth", "10.0.0.1:1")
	instance.Descriptors = "compressed"
	registration := discoverytest.Register(t, service, instance)
	watched := discoverytest.Watch(t, caller, "auth")
	found := watched.UntilAddresses(t, "10.0.0.1:1").Instances[0]
	if descriptors, err := caller.Descriptors(t.Context(), found); descriptors != "compressed" || err != nil {
		t.Errorf("the descriptors are %q, %v", descriptors, err)
	}
	untilKeptFor(t, registration, 3*openedTTL) // and its keys are compared meanwhile
	untilRegistered(t, registration)
	watched.UntilAddresses(t, "10.0.0.1:1")
	discoverytest.Watch(t, service, "auth").UntilAddresses(t, "10.0.0.1:1") // it may call itself

	foreign, err := service.Register(discoverytest.Instance("billing", "10.0.0.2:1"))
	if err != nil {
		t.Fatal(err)
	}
	untilError(t, foreign, "permission denied")
	discoverytest.Close(t, foreign)
	discoverytest.Close(t, registration)
	watched.UntilAddresses(t)
}

// etcdctlRole does what etcdctl role does with arguments: "add ROLE", or "grant-permission
// ROLE [--prefix=true] KIND KEY".
func etcdctlRole(t *testing.T, root *clientv3.Client, arguments []string) {
	t.Helper()
	command, role, rest := arguments[0], arguments[1], arguments[2:]
	if command == "add" {
		if _, err := root.RoleAdd(t.Context(), role); err != nil {
			t.Fatal(err)
		}
		return
	}
	kind, known := map[string]clientv3.PermissionType{
		"read": clientv3.PermissionType(clientv3.PermRead), "readwrite": clientv3.PermissionType(clientv3.PermReadWrite),
	}[rest[len(rest)-2]]
	if command != "grant-permission" || !known {
		t.Fatalf("the command %q is not known", arguments)
	}
	key, end := rest[len(rest)-1], ""
	if rest[0] == "--prefix=true" {
		end = clientv3.GetPrefixRangeEnd(key)
	}
	if _, err := root.RoleGrantPermission(t.Context(), role, key, end, kind); err != nil {
		t.Fatal(err)
	}
}

// authority issues certificates.
type authority struct {
	*certtest.Authority

	pool *x509.CertPool
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{certtest.NewAuthority(t), x509.NewCertPool()}
	a.pool.AddCert(a.Certificate)
	return a
}

// write writes the files of a configuration: the authority's certificate, and
// one that it issued.
func (a authority) write(t *testing.T, config etcd.Config) {
	t.Helper()
	certtest.Store(t, config.CAFile, certtest.PEM(a.Certificate))
	if config.CertFile != "" {
		pair := a.issue(t, "service")
		certtest.Store(t, config.CertFile, certtest.PEM(pair.Leaf))
		certtest.Store(t, config.KeyFile, certtest.KeyPEM(t, pair))
	}
}

// issue issues a certificate, which names an address if name is one.
func (a authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	var leaf certtest.Leaf
	if ip := net.ParseIP(name); ip != nil {
		leaf.IPs = []net.IP{ip}
	}
	return a.Issue(t, leaf)
}

// tlsFront speaks TLS in front of an etcd that does not, until the test ends.
// cut ends the connections that there are.
func tlsFront(t *testing.T, server *embed.Server, config *tls.Config) (endpoint string, cut func()) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var mu sync.Mutex // guards spell, which is closed when connections are cut
	spell := make(chan struct{})
	running.Go(func() {
		for {
			outside, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			during := spell
			mu.Unlock()
			running.Go(func() { forward(ctx, during, outside, strings.TrimPrefix(server.Endpoints()[0], "http://")) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		running.Wait()
	})
	return "https://" + listener.Addr().String(), func() {
		mu.Lock()
		defer mu.Unlock()
		close(spell)
		spell = make(chan struct{})
	}
}

// forward copies both ways until either side, ctx or the spell ends.
func forward(ctx context.Context, spell <-chan struct{}, outside net.Conn, address string) {
	defer outside.Close()
	inside, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer inside.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = outside.Close()
		_ = inside.Close()
	})
	defer stop()
	var copying sync.WaitGroup
	copying.Go(func() {
		select {
		case <-spell:
			cancel()
		case <-ctx.Done():
		}
	})
	for _, pair := range [][2]net.Conn{{outside, inside}, {inside, outside}} {
		copying.Go(func() {
			defer cancel()
			_, _ = io.Copy(pair[0], pair[1])
		})
	}
	copying.Wait()
}
