package server

import (
	"context"
	"crypto/x509"
	"hash/maphash"
	"net"
	"net/netip"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// principal is a keyed hash of the caller's name. Its lowest bit is set if the name
// was proven.
//
// Two names with the same hash share a limit and, if they also know each other's
// session, a window. Calls may be refused for that reason, but none is accepted.
type principal uint64

const proven principal = 1

// scope separates the sessions of proven principals: a caller that learns another
// caller's session cannot use up its numbers. An address proves nothing, and the
// copy of a call may come from another address (a second proxy, a second network).
// So all unproven principals have one scope, in which a copy is recognized
// wherever it comes from. Their addresses only count for limits.
func (p principal) scope() principal {
	if p&proven != 0 {
		return p
	}
	return 0
}

type principalKey struct{}

// WithPrincipal returns a context for [Config].BeforeUnary and BeforeStream to pass
// on. name is the program that calls. Its sessions are counted by that name instead of by the
// peer's certificate or host, and are apart from those of all others. An empty
// name changes nothing.
func WithPrincipal(ctx context.Context, name string) context.Context {
	if name == "" {
		return ctx
	}
	return context.WithValue(ctx, principalKey{}, name)
}

// PrincipalOf returns the name of the program that made a call, from the context of its
// handler or of an interceptor: the name that [WithPrincipal] set, else the one in the
// certificate of the peer if that was verified. That is its first URI, such as a SPIFFE
// ID, or its first DNS name if it has no URI. The common name never counts. PrincipalOf
// returns "" if the caller has proven no name.
func PrincipalOf(ctx context.Context) string {
	if name, ok := ctx.Value(principalKey{}).(string); ok {
		return name
	}
	leaf := certificateOf(ctx)
	switch {
	case leaf == nil:
		return ""
	case len(leaf.URIs) > 0:
		return leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0 && !strings.ContainsAny(leaf.DNSNames[0], ":/"): // it must not look like a URI
		return leaf.DNSNames[0]
	default:
		return ""
	}
}

// certificateOf returns the verified certificate of a call's peer, nil if there is none.
func certificateOf(ctx context.Context) *x509.Certificate {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}

// principalOf returns a call's principal: the name that authentication set, else
// the name that the peer's certificate proves, else the peer's host. It does not
// allocate for TLS and TCP.
func principalOf(ctx context.Context, seed maphash.Seed) principal {
	if name, ok := ctx.Value(principalKey{}).(string); ok {
		var h maphash.Hash
		h.SetSeed(seed)
		_ = h.WriteByte('p') // never fails
		_, _ = h.WriteString(name)
		return principal(h.Sum64()) | proven
	}
	if leaf := certificateOf(ctx); leaf != nil {
		return ofCertificate(seed, leaf) | proven
	}
	from, ok := peer.FromContext(ctx)
	if !ok {
		return 0
	}
	return ofAddress(seed, from.Addr) &^ proven
}

// ofCertificate returns the principal that a certificate names, which stays when
// the certificate is renewed: its first URI, such as a SPIFFE ID, else its DNS
// names, else its subject.
func ofCertificate(seed maphash.Seed, leaf *x509.Certificate) principal {
	var h maphash.Hash
	h.SetSeed(seed)
	write := func(kind byte, parts ...string) {
		_ = h.WriteByte(kind) // never fails
		for _, part := range parts {
			_, _ = h.WriteString(part) // never fails
			_ = h.WriteByte(0)         // separates the parts: no name has it
		}
	}
	switch {
	case len(leaf.URIs) > 0:
		uri := leaf.URIs[0]
		write('u', uri.Scheme, uri.Opaque, uri.Host, uri.Path, uri.RawQuery, uri.Fragment)
	case len(leaf.DNSNames) > 0:
		write('d', leaf.DNSNames...)
	default:
		_ = h.WriteByte('s')
		_, _ = h.Write(leaf.RawSubject)
	}
	return principal(h.Sum64())
}

// ofAddress returns the principal of a peer without a certificate.
func ofAddress(seed maphash.Seed, address net.Addr) principal {
	switch at := address.(type) {
	case nil:
		return 0
	case *net.TCPAddr:
		return ofIP(seed, at.AddrPort().Addr())
	}
	text := address.String()
	if at, err := netip.ParseAddrPort(text); err == nil {
		return ofIP(seed, at.Addr())
	}
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	return principal(maphash.String(seed, text))
}

// ofIP returns the principal of an IP address. All of an IPv4 address counts, also
// when it is written as IPv6. Of an IPv6 address the first 64 bits count, because
// one host may use all addresses of its network.
func ofIP(seed maphash.Seed, address netip.Addr) principal {
	ip := address.As16()
	if !address.Unmap().Is4() {
		clear(ip[8:])
	}
	return principal(maphash.Bytes(seed, ip[:]))
}
