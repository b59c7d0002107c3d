// Package spiffe has TLS with SPIFFE identities, such as those that SPIRE issues. It is a
// module of its own, so that only programs that use it depend on go-spiffe.
//
// An X.509 source of package workloadapi of go-spiffe keeps the certificates of a program
// up to date:
//
//	source, err := workloadapi.NewX509Source(ctx)
//	…
//	defer source.Close()
//	domain := spiffeid.RequireTrustDomainFromString("example.org")
//	err = framework.Serve(ctx, registry, register, spiffe.Service(source, tlsconfig.AuthorizeMemberOf(domain)))
//
// framework.PrincipalOf returns the SPIFFE ID of a caller, and option framework.Authorize
// says which IDs may call what.
package spiffe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/onecall-dev/onecall/framework"
)

// Source has the certificate of a program and the authorities that it trusts, such as a
// *workloadapi.X509Source. It is read at each handshake. The program closes it.
type Source interface {
	x509svid.Source
	x509bundle.Source
}

// Service returns the option with which a service speaks TLS 1.3 with its certificate from
// a source. It accepts callers that the source's authorities have signed and that callers
// authorizes, such as tlsconfig.AuthorizeMemberOf: each must send a certificate. The option
// excludes framework.TLS and other credentials.
func Service(source Source, callers tlsconfig.Authorizer) framework.ServeOption {
	return framework.ServerOptions(grpc.Creds(newCredentials(source, callers, nil)))
}

// Bus returns the option with which a bus speaks TLS 1.3 with its certificate from a source.
// id returns the SPIFFE ID that the instances of an API must have, by its bus name: see
// [InDomain]. The option excludes framework.TLS and other credentials.
func Bus(source Source, id func(api string) (spiffeid.ID, error)) framework.BusOption {
	return framework.DialOptions(grpc.WithTransportCredentials(newCredentials(source, nil, id)))
}

// InDomain returns a function for [Bus]: the ID of an API is its bus name in a trust
// domain, below a path. For "example.org" and the path "apis", that of auth is
// spiffe://example.org/apis/auth. The path may be empty.
func InDomain(domain spiffeid.TrustDomain, path ...string) func(api string) (spiffeid.ID, error) {
	return func(api string) (spiffeid.ID, error) {
		return spiffeid.FromSegments(domain, append(append([]string(nil), path...), api)...)
	}
}

// transport has the credentials of one side.
type transport struct {
	credentials.TransportCredentials // implements Info and OverrideServerName

	source  Source
	callers tlsconfig.Authorizer
	id      func(api string) (spiffeid.ID, error)
}

func newCredentials(source Source, callers tlsconfig.Authorizer, id func(api string) (spiffeid.ID, error)) *transport {
	return &transport{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), source: source, callers: callers, id: id}
}

// ClientHandshake implements [credentials.TransportCredentials]. authority is the name of
// the API, unless the program has set another.
func (t *transport) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	id, err := t.id(authority)
	if err != nil {
		return nil, nil, fmt.Errorf("spiffe: no ID for the API %q: %w", authority, err)
	}
	config := tlsconfig.MTLSClientConfig(t.source, t.source, tlsconfig.AuthorizeID(id))
	config.MinVersion = tls.VersionTLS13
	secured, info, err := credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
	return t.verified(secured, info, err, tlsconfig.AuthorizeID(id))
}

// ServerHandshake implements [credentials.TransportCredentials].
func (t *transport) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config := tlsconfig.MTLSServerConfig(t.source, t.source, t.callers)
	config.MinVersion = tls.VersionTLS13
	// crypto/tls does not verify the other side again when it resumes a session.
	config.SessionTicketsDisabled = true
	secured, info, err := credentials.NewTLS(config).ServerHandshake(conn)
	return t.verified(secured, info, err, t.callers)
}

// Clone implements [credentials.TransportCredentials].
func (t *transport) Clone() credentials.TransportCredentials {
	return newCredentials(t.source, t.callers, t.id)
}

// verified returns the result of a handshake with the verified chains of the other side.
// go-spiffe verifies them instead of crypto/tls, which so does not know them, and
// framework.PrincipalOf believes no other.
func (t *transport) verified(conn net.Conn, info credentials.AuthInfo, err error, allowed tlsconfig.Authorizer) (net.Conn, credentials.AuthInfo, error) {
	if err != nil {
		return nil, nil, err
	}
	secured, ok := info.(credentials.TLSInfo)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("spiffe: the handshake returned a %T", info), conn.Close())
	}
	id, chains, err := x509svid.Verify(secured.State.PeerCertificates, t.source)
	if err == nil {
		err = allowed(id, chains)
	}
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	secured.State.VerifiedChains = chains
	return conn, secured, nil
}
