package server

import (
	"context"
	"crypto/x509"
	"hash/maphash"
	"net"
	"net/netip"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// principal stands for who calls: a keyed hash of a name. Its lowest bit tells
// whether the name was proven.
//
// Two names with one hash share a cap and, if they also know each other's
// session, a window: calls may be refused for that, none is accepted for it.
type principal uint64

const proven principal = 1

// scope parts the sessions of proven principals from each other's, so that who
// learns another's session cannot use up its numbers. An address proves
// nothing, and the copy of a call may come from another one (a second proxy, a
// second network): sessions of unproven principals are one scope, in which a
// copy is known for one wherever it comes from. The address is only what caps
// are counted by.
func (p principal) scope() principal {
	if p&proven != 0 {
		return p
	}
	return 0
}

type principalKey struct{}

// WithPrincipal returns a context for what runs before admission to pass on, which
// names the program that calls. Sessions are counted by that name instead
// of by the peer's certificate or host, and are apart from those of all others.
// An empty name changes nothing.
func WithPrincipal(ctx context.Context, name string) context.Context {
	if name == "" {
		return ctx
	}
	return context.WithValue(ctx, principalKey{}, name)
}

// principalOf returns a call's principal: the name that authentication gave it,
// else the identity that the peer's certificate proves, else its host. It does
// not allocate for TLS and TCP.
func principalOf(ctx context.Context, seed maphash.Seed) principal {
	if name, ok := ctx.Value(principalKey{}).(string); ok {
		var h maphash.Hash
		h.SetSeed(seed)
		_ = h.WriteByte('p') // never fails
		_, _ = h.WriteString(name)
		return principal(h.Sum64()) | proven
	}
	from, ok := peer.FromContext(ctx)
	if !ok {
		return 0
	}
	if info, ok := from.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 && len(info.State.VerifiedChains[0]) > 0 {
		return named(seed, info.State.VerifiedChains[0][0]) | proven
	}
	return located(seed, from.Addr) &^ proven
}

// named gives the identity that a certificate names, which stays when it is
// renewed: its first URI, such as a SPIFFE ID, else its DNS names, else its
// subject.
func named(seed maphash.Seed, leaf *x509.Certificate) principal {
	var h maphash.Hash
	h.SetSeed(seed)
	write := func(kind byte, parts ...string) {
		_ = h.WriteByte(kind) // never fails
		for _, part := range parts {
			_, _ = h.WriteString(part) // never fails
			_ = h.WriteByte(0)         // which is in no name, so that parts are not run together
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

func located(seed maphash.Seed, address net.Addr) principal {
	switch at := address.(type) {
	case nil:
		return 0
	case *net.TCPAddr:
		return host(seed, at.AddrPort().Addr())
	}
	text := address.String()
	if at, err := netip.ParseAddrPort(text); err == nil {
		return host(seed, at.Addr())
	}
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	return principal(maphash.String(seed, text))
}

// host returns the principal of an IP address. IPv4 counts alone, written in
// IPv6 too; of IPv6 the first 64 bits count, since one host may use all addresses
// of its network.
func host(seed maphash.Seed, address netip.Addr) principal {
	ip := address.As16()
	if !address.Unmap().Is4() {
		clear(ip[8:])
	}
	return principal(maphash.Bytes(seed, ip[:]))
}
