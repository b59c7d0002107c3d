package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
)

// openWith opens a registry as config says, for the length of the test.
func openWith(t *testing.T, config etcd.Config) *etcd.Registry {
	t.Helper()
	config.Namespace = newNamespace()
	config.Logger = slog.New(slog.DiscardHandler)
	config.TTL = 3 * time.Second
	registry, err := etcd.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry
}

// wantUnreachable watches until etcd is told to be out of reach, for a reason.
func wantUnreachable(t *testing.T, registry *etcd.Registry, reason string) {
	t.Helper()
	snapshot := discoverytest.Watch(t, registry, "auth").Until(t, "an unreachable registry", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
	var unreachable *discovery.UnreachableError
	if err := snapshot.Err(); !errors.As(err, &unreachable) || !strings.Contains(err.Error(), reason) {
		t.Errorf("told %v, want an UnreachableError that says %q", err, reason)
	}
}

func TestUserAndPasswordOpenEtcd(t *testing.T) {
	t.Parallel()
	server, err := embed.Start(t.Context(), embed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	direct := client(t, server)
	for _, step := range []func() error{
		func() error { _, err := direct.RoleAdd(t.Context(), "root"); return err },
		func() error { _, err := direct.UserAdd(t.Context(), "root", "pw"); return err },
		func() error { _, err := direct.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := direct.AuthEnable(t.Context()); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	registry := openWith(t, etcd.Config{Endpoints: server.Endpoints(), Username: "root", Password: "pw"})
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, registry, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")

	wantUnreachable(t, openWith(t, etcd.Config{Endpoints: server.Endpoints(), Username: "root", Password: "wrong"}), "authentication failed")
	wantUnreachable(t, openWith(t, etcd.Config{Endpoints: server.Endpoints()}), "user name is empty")
}

func TestTLSAndClientCertificatesReachEtcd(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t)
	endpoint := tlsFront(t, shared, &tls.Config{
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

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pool        *x509.CertPool
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return authority{certificate: certificate, key: key, pool: pool}
}

func (a authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsFront speaks TLS in front of an etcd that does not, until the test ends.
func tlsFront(t *testing.T, server *embed.Server, config *tls.Config) (endpoint string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			outside, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { forward(ctx, outside, strings.TrimPrefix(server.Endpoints()[0], "http://")) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		running.Wait()
	})
	return "https://" + listener.Addr().String()
}

// forward copies both ways until either side or ctx ends.
func forward(ctx context.Context, outside net.Conn, address string) {
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
	for _, pair := range [][2]net.Conn{{outside, inside}, {inside, outside}} {
		copying.Go(func() {
			defer cancel()
			_, _ = io.Copy(pair[0], pair[1])
		})
	}
	copying.Wait()
}
