package framework

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// The limits on a client, unless [ServerOptions] set others. grpc-go's own defaults
// do not limit most of this.
const (
	// maxConcurrentStreams is how many calls one connection may have under way;
	// its further calls wait at the client. It also bounds the handlers that run
	// on after their calls were reset, without which a client can start any
	// number of them (CVE-2023-44487, "rapid reset").
	maxConcurrentStreams = 1000
	// maxHeaderListSize is how many bytes the metadata of one call may have, as
	// HTTP/2 counts them: 32 are added to each entry.
	maxHeaderListSize = 64 << 10
	// connectionTimeout is how long a client may take from connecting to the end
	// of the TLS handshake and HTTP/2's preface.
	connectionTimeout = 20 * time.Second
	// pingAfter is how long a connection may be silent before the server pings its
	// client, and pingTimeout how long the answer may take before the connection is
	// closed.
	pingAfter   = time.Minute
	pingTimeout = 20 * time.Second
	// minPingInterval is how often a client may ping the server, also while it has
	// no call under way. grpc-go's clients ping every 10 s at most. Pings that wait
	// in the network arrive closer together than they were sent.
	minPingInterval = 5 * time.Second
)

// protection returns the options of a server that limit its clients.
func protection() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxConcurrentStreams(maxConcurrentStreams),
		grpc.MaxHeaderListSize(maxHeaderListSize),
		grpc.ConnectionTimeout(connectionTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
	}
}
