package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
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
	from, _ := peer.FromContext(ctx)
	leaf := certificateOf(from)
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

// certificateOf returns the verified certificate of a call's peer, nil if there is none. The
// peer may be nil.
func certificateOf(from *peer.Peer) *x509.Certificate {
	if from == nil {
		return nil
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}

// principalOf returns a call's principal. It does not allocate for TLS and TCP, unless
// a name is long.
func principalOf(ctx context.Context, seed maphash.Seed) principal {
	var room [128]byte
	name, isProven := appendName(ctx, room[:0])
	switch {
	case isProven:
		return principal(maphash.Bytes(seed, name)) | proven
	case len(name) == 0:
		return 0
	default:
		return principal(maphash.Bytes(seed, name)) &^ proven
	}
}

// ownerOf returns for a ledger a hash of who makes a call, and of its method. All
// callers without a proven name are the same: see [principal.scope]. It is no key to
// whom the call is of, because key is known only with the call's session.
func ownerOf(ctx context.Context, key, method string) string {
	name, isProven := appendName(ctx, nil)
	if !isProven {
		name = nil
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %s ", key, method) // neither has a space; a hash never fails
	_, _ = h.Write(name)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// appendName appends who makes a call: the name that authentication set, else the name
// that the peer's certificate proves, else the peer's host, which is not proven. No
// two of them are equal. It appends nothing if the caller is not known.
func appendName(ctx context.Context, to []byte) (name []byte, isProven bool) {
	if name, ok := ctx.Value(principalKey{}).(string); ok {
		return append(append(to, 'p'), name...), true
	}
	from, ok := peer.FromContext(ctx)
	if leaf := certificateOf(from); leaf != nil {
		return appendCertificate(to, leaf), true
	}
	if !ok {
		return to, false
	}
	return appendAddress(to, from.Addr), false
}

// appendCertificate appends the name that a certificate proves, which stays when the
// certificate is renewed: its first URI, such as a SPIFFE ID, else its DNS names, else
// its subject.
func appendCertificate(to []byte, leaf *x509.Certificate) []byte {
	parts := func(kind byte, parts ...string) []byte {
		to = append(to, kind)
		for _, part := range parts {
			to = append(append(to, part...), 0) // no name has a zero byte
		}
		return to
	}
	switch {
	case len(leaf.URIs) > 0:
		uri := leaf.URIs[0]
		return parts('u', uri.Scheme, uri.Opaque, uri.Host, uri.Path, uri.RawQuery, uri.Fragment)
	case len(leaf.DNSNames) > 0:
		return parts('d', leaf.DNSNames...)
	default:
		return append(append(to, 's'), leaf.RawSubject...)
	}
}

// appendAddress appends the host of a peer without a certificate. That of a unix socket is
// the loopback address.
func appendAddress(to []byte, address net.Addr) []byte {
	switch at := address.(type) {
	case nil:
		return to
	case *net.UnixAddr:
		return appendIP(to, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	case *net.TCPAddr:
		return appendIP(to, at.AddrPort().Addr())
	}
	text := address.String()
	if at, err := netip.ParseAddrPort(text); err == nil {
		return appendIP(to, at.Addr())
	}
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	return append(append(to, 'h'), text...)
}

// appendIP appends an IP address. All of an IPv4 address counts, also when it is
// written as IPv6. Of an IPv6 address the first 64 bits count, because one host may use
// all addresses of its network.
func appendIP(to []byte, address netip.Addr) []byte {
	ip := address.As16()
	if !address.Unmap().Is4() {
		clear(ip[8:])
	}
	return append(append(to, 'i'), ip[:]...)
}
