package framework

import (
	"errors"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/framework/internal/tlsfiles"
)

// TLSFiles are the files of option [TLS], in PEM.
type TLSFiles struct {
	// CA has the certificates of the authorities that sign those of the other side. It
	// is required.
	CA string
	// Cert has the certificate of this side, followed by those between it and its
	// authority, and Key has its key. A service requires both. A bus without them
	// sends no certificate.
	Cert, Key string
	// AllowAnonymous lets a service accept callers that send no certificate, such as
	// those that prove who they are by a token: see [Authenticate]. A certificate that is
	// sent must be valid in any case. It has no effect on a bus.
	AllowAnonymous bool
}

// TLS makes a service or a bus speak TLS 1.3, with certificates from files. Each side
// checks the certificate of the other. That of an instance must have the bus name of the
// called API as a DNS name, such as "auth". [PrincipalOf] returns the name in that of a
// caller.
//
// The files are read at each handshake, so they can be replaced while the program runs.
// Replace them by renaming, as cert-manager does. While they cannot be used, because the
// key does not fit the certificate, a file is half written or a certificate is not valid
// yet, the last good ones stay in use, and the log and the event [CertificateChanged] say
// why. Connections that exist are not ended. From 30 days before a certificate expires,
// the log and the event [CertificateExpiring] warn of it every day.
//
// Files that cannot be used at the start are an error of [Serve] or [NewBus]. The option
// excludes [Insecure], and credentials in [ServerOptions] and [DialOptions].
func TLS(files TLSFiles) Option {
	return tlsOption(&tlsfiles.Files{CA: files.CA, Cert: files.Cert, Key: files.Key, AllowAnonymous: files.AllowAnonymous})
}

// tlsOption returns option TLS.
func tlsOption(files *tlsfiles.Files) Option {
	return bothOption{
		serveOption: func(o *server.Options) error {
			switch {
			case o.TLS != nil:
				return errTwiceTLS
			case files.Cert == "" && files.Key == "":
				return errors.New("option TLS: Cert and Key are empty: a service needs a certificate and its key")
			}
			o.TLS = files
			return files.Check()
		},
		busOption: func(o *client.Options) error {
			if o.TLS != nil {
				return errTwiceTLS
			}
			o.TLS = files
			return files.Check()
		},
	}
}

// errTwiceTLS is the error of a second option TLS.
var errTwiceTLS = errors.New("option TLS: is given twice: leave one out")
