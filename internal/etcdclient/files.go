package etcdclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/onecall-dev/onecall/internal/certfiles"
	"github.com/onecall-dev/onecall/internal/lastgood"
)

// securityField returns the name of the first field for TLS that is set, "" if none is.
func (c Config) securityField() string {
	switch {
	case c.TLS != nil:
		return "TLS"
	case c.CAFile != "":
		return "CAFile"
	case c.CertFile != "":
		return "CertFile"
	case c.KeyFile != "":
		return "KeyFile"
	default:
		return ""
	}
}

// hasFiles reports whether any file is set.
func (c Config) hasFiles() bool { return c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" }

// files returns the files of the configuration.
func (c Config) files() *files {
	f := new(files)
	if c.CAFile != "" {
		f.pool = certfiles.NewPool(c.CAFile)
	}
	if c.CertFile != "" {
		f.pair = certfiles.NewPair(c.CertFile, c.KeyFile)
	}
	return f
}

// checkFiles returns an error if a file cannot be used.
func (c Config) checkFiles() *FieldError {
	switch {
	case !c.hasFiles():
		return nil
	case c.TLS != nil:
		return &FieldError{"TLS", "is set beside CAFile, CertFile or KeyFile: give the files, or have all of them in TLS"}
	case c.CertFile == "" && c.KeyFile != "":
		return &FieldError{"CertFile", "is empty though KeyFile is set: a client certificate is both, or neither"}
	case c.CertFile != "" && c.KeyFile == "":
		return &FieldError{"KeyFile", "is empty though CertFile is set: a client certificate is both, or neither"}
	}
	if _, err := c.files().certificates(); err != nil {
		return &FieldError{"CertFile", fmt.Sprintf("and KeyFile can't be used: %v: set both, to a certificate and its key in PEM", err)}
	}
	if _, err := c.files().roots(); err != nil {
		return &FieldError{"CAFile", fmt.Sprintf("can't be used: %v: give the certificates that etcd's are signed with, in PEM", err)}
	}
	return nil
}

// files are the client's certificate, its key, and the roots that it trusts. What is not
// configured is nil.
type files struct {
	pair *lastgood.Value[*certfiles.Pair]
	pool *lastgood.Value[*certfiles.Pool]
}

// certificates returns the client's certificate, none if there is no file. The error is
// that of a file that was never good.
func (f *files) certificates() ([]tls.Certificate, error) {
	if f.pair == nil {
		return nil, nil
	}
	pair, err := f.pair.Read()
	if pair == nil {
		return nil, err
	}
	return []tls.Certificate{pair.Certificate}, nil
}

// roots returns the roots that the client trusts; nil, the system's, if there is no file.
// The error is that of a file that was never good.
func (f *files) roots() (*x509.CertPool, error) {
	if f.pool == nil {
		return nil, nil //nolint:nilnil // crypto/tls takes nil for the system's roots
	}
	pool, err := f.pool.Read()
	if pool == nil {
		return nil, err
	}
	return pool.Roots, nil
}

// fileCredentials are TLS credentials that read the files at each handshake.
type fileCredentials struct {
	credentials.TransportCredentials // implements Info

	files *files
}

func newFileCredentials(files *files) *fileCredentials {
	return &fileCredentials{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}), files: files}
}

// ClientHandshake implements [credentials.TransportCredentials].
func (c *fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	certificates, err := c.files.certificates()
	if err != nil {
		return nil, nil, err
	}
	roots, err := c.files.roots()
	if err != nil {
		return nil, nil, err
	}
	config := &tls.Config{Certificates: certificates, RootCAs: roots, MinVersion: tls.VersionTLS12}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// Clone implements [credentials.TransportCredentials].
func (c *fileCredentials) Clone() credentials.TransportCredentials {
	return newFileCredentials(c.files)
}
