package framework

import (
	"errors"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/framework/internal/tlsfiles"
)

// Insecure allows plain text, which others on the network can read and change. Without
// this option, [TLS] or other credentials, a service must listen on loopback, else [Serve]
// returns an error, and a bus connects only to instances on loopback, or over the unix socket
// of one on its host: calls of others fail with UNAVAILABLE and *[ConnectionError]. Use it
// where something else protects the network, such as a service mesh.
func Insecure() Option {
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Insecure = true
			return nil
		},
		busOption: func(o *client.Options) error {
			o.Insecure = true
			return nil
		},
	}
}

// oneSecurity returns an error if both options of security are set.
func oneSecurity(tls *tlsfiles.Files, insecure bool) error {
	if tls != nil && insecure {
		return errors.New("options TLS and Insecure: both are given: leave one out")
	}
	return nil
}
