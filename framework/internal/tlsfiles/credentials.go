package tlsfiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// Credentials returns the credentials of a service or a bus, which read the files at each
// handshake.
func (i *Identity) Credentials() credentials.TransportCredentials {
	return &fileCredentials{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13}), identity: i}
}

type fileCredentials struct {
	credentials.TransportCredentials // implements Info and OverrideServerName

	identity *Identity
}

// ClientHandshake implements [credentials.TransportCredentials].
func (c *fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	using, _ := c.identity.read() // which has reported the error
	return using.credentials.ClientHandshake(ctx, authority, conn)
}

// ServerHandshake implements [credentials.TransportCredentials].
func (c *fileCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	using, _ := c.identity.read() // which has reported the error
	held := &heldConn{Conn: conn}
	secured, info, err := using.credentials.ServerHandshake(held)
	if err != nil {
		c.identity.refuse(conn, err)
	}
	held.secured.Store(true)
	return secured, info, err
}

// heldConn is a connection that grpc-go does not close when its handshake fails: the
// server closes it after refuse.
type heldConn struct {
	net.Conn

	secured atomic.Bool
}

// Close implements [net.Conn].
func (c *heldConn) Close() error {
	if !c.secured.Load() {
		return nil
	}
	return c.Conn.Close()
}

// Clone implements [credentials.TransportCredentials].
func (c *fileCredentials) Clone() credentials.TransportCredentials { return c.identity.Credentials() }

// How long a connection stays open after its handshake has failed, and how many bytes of
// it are read.
const (
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// mostRefused is how many lines a minute are logged about connections that were refused.
const mostRefused = 10

// refuse logs why a connection was refused, and lets its client read the alert. If the
// connection was closed with unread bytes, the client would get a reset instead.
func (i *Identity) refuse(conn net.Conn, err error) {
	if errors.Is(err, io.EOF) { // it said nothing, such as the probe of a load balancer
		return
	}
	if i.refused.Allow("", mostRefused) {
		i.log.Warn("a connection was refused: "+explain(err), "from", conn.RemoteAddr(), "error", err)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the connection ends in any case
	}
	_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// explain returns why a handshake failed, and what to do, as far as is known.
func explain(err error) string {
	var (
		plain     tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		remote    *net.OpError
	)
	switch {
	case errors.As(err, &plain):
		return "its client speaks no TLS: set option TLS there"
	case errors.As(err, &authority):
		return "no authority in the CA file has signed the certificate of its client"
	case errors.As(err, &invalid):
		return "the certificate of its client is not valid: renew it, and compare the clocks"
	case errors.As(err, &remote) && remote.Op == "remote error":
		return "its client refused the certificate of this service"
	case strings.Contains(err.Error(), "client didn't provide a certificate"):
		return "its client sent no certificate: set Cert and Key in its option TLS, or AllowAnonymous in that of this service"
	default:
		return "its handshake failed"
	}
}
