package framework_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// certificate returns a self-signed certificate for names, and a pool that
// trusts it.
func certificate(t *testing.T, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	authority, pool := certtest.NewAuthority(t), x509.NewCertPool()
	pool.AddCert(authority.Certificate)
	return authority.Issue(t, certtest.Leaf{Names: names}), pool
}

func TestWithTLSTheNameInTheCertificateIsTheAPIs(t *testing.T) {
	t.Parallel()
	own, pool := certificate(t, "test.echo")
	registry := memory.New()
	serve(t, registry, &echo{}, framework.ServerOptions(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13,
	}))))
	trusting := framework.DialOptions(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})))
	bus := newBus(t, registry, trusting)
	ready(t, bus, "test.echo")
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Errorf("Echo over TLS = %v", err)
	}
	// The other API at the same address is not in the certificate.
	_, err := testv1.NewPlainServiceClient(bus).Ping(t.Context(), &testv1.PingRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate is valid for test.echo, not onecall.test.v1.PlainService") {
		t.Errorf("Ping of an API that the certificate does not name = %v", err)
	}
	plaintext := newBus(t, registry)
	const want = "services do that speak TLS, which this bus does not"
	if err := unready(t, plaintext, want); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Ready without TLS = %v, want %q", err, want)
	}
}

func TestAServicesOwnInterceptorsRunInsideTheFrameworks(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{}, framework.ServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if _, held := ctx.Deadline(); !held {
				return nil, errors.New("no deadline")
			}
			if strings.HasSuffix(info.FullMethod, "/EchoSoon") {
				panic("in an interceptor")
			}
			return handler(ctx, req)
		})))
	var called []string
	bus := newBus(t, registry, framework.DialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			called = append(called, method)
			return invoker(ctx, method, req, reply, conn, opts...)
		})))
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Errorf("Echo = %v", err)
	}
	if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); status.Code(err) != codes.Internal {
		t.Errorf("a call whose interceptor panics = %v, want INTERNAL", err)
	}
	if len(called) != 2 {
		t.Errorf("the caller's interceptor saw %q, want both calls", called)
	}
}
