package server

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// The limits on a client, unless [ServerOptions] set others. grpc-go has no limit by
// default for most of them.
const (
	// maxConcurrentStreams is how many calls one connection may have under way.
	// Further calls wait at the client. The limit also applies to handlers that still
	// run after their calls were reset. Without it a client can start any number of
	// handlers (CVE-2023-44487, "rapid reset").
	maxConcurrentStreams = 1000
	// maxHeaderListSize is how many bytes the metadata of one call may have, as
	// HTTP/2 counts them: each entry counts 32 bytes more.
	maxHeaderListSize = 64 << 10
	// connectionTimeout is how long a client may take from connecting to the end
	// of the TLS handshake and HTTP/2's preface.
	connectionTimeout = 20 * time.Second
	// After pingAfter without a message from the client, the server pings it. If the
	// answer takes longer than pingTimeout, the server closes the connection.
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
