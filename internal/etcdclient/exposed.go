package etcdclient

import (
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
)

// Loopback reports whether a host, a name or an IP address, is loopback. The only such
// name is localhost.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Remote returns the first endpoint that is not on loopback, "" if all are.
func (c Config) Remote() string {
	for _, endpoint := range c.Endpoints {
		if parsed, err := url.Parse(endpoint); err == nil && !Loopback(parsed.Hostname()) {
			return endpoint
		}
	}
	return ""
}

// WarnOfPassword logs a warning if a password is sent over a network in plain text. The
// configuration must have been checked.
func (c Config) WarnOfPassword(log *slog.Logger) {
	if remote := c.Remote(); c.Password != "" && strings.HasPrefix(remote, "http:") {
		log.Warn("the password for etcd goes over the network in plain text, where others can read it; use https endpoints", "endpoint", remote, "username", c.Username)
	}
}
