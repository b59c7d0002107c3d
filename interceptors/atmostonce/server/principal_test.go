package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"hash/maphash"
	"net"
	"net/url"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

func TestAPrincipalIsWhatACertificateProvesElseAHost(t *testing.T) {
	t.Parallel()
	uri := func(text string) []*url.URL {
		parsed, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{parsed}
	}
	at := func(address string) net.Addr {
		resolved, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return resolved
	}
	from := func(address net.Addr, leaf *x509.Certificate) *peer.Peer {
		p := &peer.Peer{Addr: address}
		if leaf != nil {
			p.AuthInfo = credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}}
		}
		return p
	}
	unverified := &peer.Peer{Addr: at("10.0.0.1:1"), AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{{URIs: uri("spiffe://a/b")}},
	}}}
	tests := map[string]struct {
		one, other *peer.Peer
		same       bool
	}{
		"two ports of a host":                  {from(at("10.0.0.1:1"), nil), from(at("10.0.0.1:2"), nil), true},
		"two hosts":                            {from(at("10.0.0.1:1"), nil), from(at("10.0.0.2:1"), nil), false},
		"IPv4, and the same in IPv6":           {from(at("10.0.0.1:1"), nil), from(at("[::ffff:10.0.0.1]:1"), nil), true},
		"two addresses of an IPv6 network":     {from(at("[2001:db8:0:1::1]:1"), nil), from(at("[2001:db8:0:1:ffff::2]:1"), nil), true},
		"two networks of IPv6":                 {from(at("[2001:db8:0:1::1]:1"), nil), from(at("[2001:db8:0:2::1]:1"), nil), false},
		"two hosts of IPv4 in IPv6":            {from(at("[::ffff:10.0.0.1]:1"), nil), from(at("[::ffff:10.0.0.2]:1"), nil), false},
		"two unix sockets":                     {from(&net.UnixAddr{Name: "/a"}, nil), from(&net.UnixAddr{Name: "/b"}, nil), true},
		"a unix socket, and loopback":          {from(&net.UnixAddr{Name: "@"}, nil), from(at("127.0.0.1:1"), nil), true},
		"a unix socket, and another host":      {from(&net.UnixAddr{Name: "@"}, nil), from(at("127.0.0.2:1"), nil), false},
		"an address of another kind":           {from(&net.IPNet{IP: net.IPv4(10, 0, 0, 1), Mask: net.CIDRMask(8, 32)}, nil), from(&net.IPNet{IP: net.IPv4(10, 0, 0, 2), Mask: net.CIDRMask(8, 32)}, nil), false},
		"the same of another kind":             {from(&net.IPNet{IP: net.IPv4(10, 0, 0, 1), Mask: net.CIDRMask(8, 32)}, nil), from(&net.IPNet{IP: net.IPv4(10, 0, 0, 1), Mask: net.CIDRMask(8, 32)}, nil), true},
		"no address":                           {from(nil, nil), from(nil, nil), true},
		"a certificate and its renewal":        {from(at("10.0.0.1:1"), &x509.Certificate{URIs: uri("spiffe://a/b"), Raw: []byte("1")}), from(at("10.0.0.2:1"), &x509.Certificate{URIs: uri("spiffe://a/b"), Raw: []byte("2"), DNSNames: []string{"x"}}), true},
		"certificates of two URIs":             {from(nil, &x509.Certificate{URIs: uri("spiffe://a/b")}), from(nil, &x509.Certificate{URIs: uri("spiffe://a/c")}), false},
		"parts of a URI that join to the same": {from(nil, &x509.Certificate{URIs: uri("spiffe://a/b")}), from(nil, &x509.Certificate{URIs: uri("spiffe:///a/b")}), false},
		"the same DNS names":                   {from(nil, &x509.Certificate{DNSNames: []string{"a", "b"}, RawSubject: []byte("1")}), from(nil, &x509.Certificate{DNSNames: []string{"a", "b"}}), true},
		"DNS names that join to the same":      {from(nil, &x509.Certificate{DNSNames: []string{"a", "b"}}), from(nil, &x509.Certificate{DNSNames: []string{"ab"}}), false},
		"the same subject":                     {from(nil, &x509.Certificate{RawSubject: []byte("1")}), from(nil, &x509.Certificate{RawSubject: []byte("1")}), true},
		"two subjects":                         {from(nil, &x509.Certificate{RawSubject: []byte("1")}), from(nil, &x509.Certificate{RawSubject: []byte("2")}), false},
		"a certificate that is not verified":   {unverified, from(at("10.0.0.1:9"), nil), true},
		"a host with a certificate or without": {from(at("10.0.0.1:1"), &x509.Certificate{RawSubject: []byte("1")}), from(at("10.0.0.1:1"), nil), false},
	}
	seed := maphash.MakeSeed()
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			one := principalOf(peer.NewContext(t.Context(), test.one), seed)
			other := principalOf(peer.NewContext(t.Context(), test.other), seed)
			if (one == other) != test.same {
				t.Errorf("%d and %d are the same: %v, want %v", one, other, one == other, test.same)
			}
			if info, ok := test.one.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 != (one&proven != 0) {
				t.Errorf("%d says that it is proven: %v", one, one&proven != 0)
			}
		})
	}
	if got := principalOf(context.Background(), seed); got != 0 {
		t.Errorf("without a peer: %d", got)
	}
}

func TestTheNameOfAPrincipalIsProven(t *testing.T) {
	t.Parallel()
	id := &url.URL{Scheme: "spiffe", Host: "example.org", Path: "/shop"}
	verified := func(leaf *x509.Certificate) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}}})
	}
	both := &x509.Certificate{URIs: []*url.URL{id}, DNSNames: []string{"mail"}}
	for title, test := range map[string]struct {
		ctx  context.Context
		want string
	}{
		"what authentication set":            {WithPrincipal(verified(both), "token"), "token"},
		"an empty name":                      {WithPrincipal(verified(both), ""), "spiffe://example.org/shop"},
		"a URI before a DNS name":            {verified(both), "spiffe://example.org/shop"},
		"a DNS name":                         {verified(&x509.Certificate{DNSNames: []string{"mail", "shop"}}), "mail"},
		"a DNS name that looks like a URI":   {verified(&x509.Certificate{DNSNames: []string{"spiffe://example.org/shop"}}), ""},
		"a common name":                      {verified(&x509.Certificate{Subject: pkix.Name{CommonName: "shop"}}), ""},
		"a certificate that is not verified": {peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{both}}}}), ""},
		"an address":                         {peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}}), ""},
		"no peer":                            {t.Context(), ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if got := PrincipalOf(test.ctx); got != test.want {
				t.Errorf("the name is %q, want %q", got, test.want)
			}
		})
	}
}
