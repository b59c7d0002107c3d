package framework

import (
	"github.com/onecall-dev/onecall/framework/internal/admin"
	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
)

// Admin serves a status page over HTTP, "host:port". An empty host is loopback, unlike in
// [ListenOn], and an empty address is 127.0.0.1:6060. One option can be used for a service
// and for buses: they share the page. It is served while one of them runs.
//
// These are the paths:
//   - / is the page: APIs and RPCs with rates, durations and errors, instances, the
//     registration, sessions, and the last 100 calls that failed or took half a second.
//   - /status.json has the same as JSON.
//   - /metrics has the metrics of option [Metrics] in Prometheus' text format. Without that
//     option the page has metrics of its own.
//   - /healthz is 200. /readyz is 200 unless a service drains; then it is 503.
//   - /debug/pprof/ has the profiles of the runtime, for go tool pprof.
//
// Nothing can be changed by the page. It shows no message, metadata or secret. But it shows
// addresses, errors and profiles to everyone who reaches its address: if that is not on
// loopback, a warning is logged. [Serve], [Start] and [NewBus] return an error if the
// address is taken. The log has the address of the page.
func Admin(address string) Option {
	page, err := admin.New(address)
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Admin = page
			return err
		},
		busOption: func(o *client.Options) error {
			o.Admin = page
			return err
		},
	}
}
