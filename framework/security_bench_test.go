package framework_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// BenchmarkSecurity is a unary call at a service, without a connection, with and without
// authentication and authorization.
func BenchmarkSecurity(b *testing.B) {
	leaf := certtest.NewAuthority(b).Issue(b, certtest.Leaf{URIs: []string{"spiffe://example.org/shop"}}).Leaf
	certified := peer.NewContext(b.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}}})
	authenticate := framework.Authenticate(func(ctx context.Context) (context.Context, error) { return framework.WithPrincipal(ctx, "shop"), nil })
	policy := framework.Authorize(framework.Policy{"test.echo": {"spiffe://example.org/shop", "shop"}})
	for _, test := range []struct {
		name    string
		ctx     context.Context
		options []framework.ServeOption
	}{
		{"neither", certified, nil},
		{"authentication", certified, []framework.ServeOption{authenticate}},
		{"authorization of a certificate", certified, []framework.ServeOption{policy}},
		{"authentication and authorization", certified, []framework.ServeOption{authenticate, policy}},
	} {
		b.Run(test.name, func(b *testing.B) {
			call, end, err := framework.Chained(&testv1.EchoService_ServiceDesc, &echo{}, append(test.options, quiet)...)
			if err != nil {
				b.Fatal(err)
			}
			defer end()
			decode := func(any) error { return nil }
			b.ReportAllocs()
			for b.Loop() {
				if err := call(test.ctx, decode); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
