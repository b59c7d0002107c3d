package etcdclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc/credentials"
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
func (c Config) files() *files { return &files{ca: c.CAFile, cert: c.CertFile, key: c.KeyFile} }

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

// files are the client's certificate, its key, and the roots that it trusts. While a file
// cannot be read, such as when it is being replaced, the last good content stays in use.
type files struct {
	ca, cert, key string

	mu       sync.Mutex // guards the fields below
	lastPair []tls.Certificate
	lastPool *x509.CertPool
}

// certificates returns the client's certificate, none if there is no file.
func (f *files) certificates() ([]tls.Certificate, error) {
	if f.cert == "" {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	switch {
	case err == nil:
		f.lastPair = []tls.Certificate{pair}
	case f.lastPair == nil:
		return nil, err
	}
	return f.lastPair, nil
}

// roots returns the roots that the client trusts; nil, the system's, if there is no file.
func (f *files) roots() (*x509.CertPool, error) {
	if f.ca == "" {
		return nil, nil //nolint:nilnil // crypto/tls takes nil for the system's roots
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pem, err := os.ReadFile(f.ca)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s has no certificate", f.ca)
	}
	switch {
	case err == nil:
		f.lastPool = pool
	case f.lastPool == nil:
		return nil, err
	}
	return f.lastPool, nil
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
