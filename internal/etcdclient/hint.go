package etcdclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// explain adds a hint to the error of a connection, if there is one.
func (c Config) explain(err error) error {
	if hint := c.hint(err); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

// hint returns what the user may look at, "" if that is not known.
func (c Config) hint(err error) string {
	text, secure := err.Error(), c.secure()
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("connection refused"):
		return "is etcd running, and is this its client port?"
	case has("no such host"):
		return "check the host's name"
	case secure && has("handshake failed: EOF", "does not look like a TLS handshake", "handshake failed: read", "handshake failed: write"):
		return "does etcd speak http here, not https? Then write http://"
	case !secure && has("reading server preface", "server preface", "frame too large", "broken pipe", "connection reset"):
		return "does etcd speak https here, not http? Then write https:// and set CAFile"
	case has("signed by unknown authority", "not trusted"):
		return "set CAFile to the certificates that etcd's is signed with"
	case has("certificate is valid for", "doesn't contain any IP SANs", "not valid for any names"):
		return "write the endpoint with a host that etcd's certificate names"
	case has("certificate required", "bad certificate", "unknown certificate authority"):
		return "set CertFile and KeyFile to a client certificate that etcd trusts"
	case errors.Is(err, context.DeadlineExceeded) && secure:
		return "nothing answers: check host and port, that no firewall is between, and that etcd speaks https there"
	case errors.Is(err, context.DeadlineExceeded):
		return "nothing answers: check host and port, that no firewall is between, and that etcd speaks http there"
	}
	return ""
}

// secure reports whether the endpoints are https.
func (c Config) secure() bool { return strings.HasPrefix(c.Endpoints[0], "https:") }
