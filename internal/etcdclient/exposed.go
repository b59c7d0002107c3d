package etcdclient

import (
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

// exposed returns the first endpoint that is not on loopback and http, "" if there is none.
func (c Config) exposed() string {
	remote := c.Remote()
	if scheme, _, _ := strings.Cut(remote, ":"); strings.EqualFold(scheme, "http") {
		return remote
	}
	return ""
}
