package server

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/onecall-dev/onecall/framework/internal/window"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// minPingInterval is how often a client may ping the server, also while it has no call
// under way. grpc-go's clients ping every 10 s at most. Pings that wait in the network
// arrive closer together than they were sent.
const minPingInterval = 5 * time.Second

// Limits are the limits on the clients of a service. The options of package framework set
// them, and document them.
type Limits struct {
	// Connections is how many connections the service has at the same time, and
	// ConnectionsPerHost how many of them one host has.
	Connections, ConnectionsPerHost int
	// CallsPerConnection is how many calls one connection may have under way. Further
	// calls wait at the client. The limit also applies to handlers that still run
	// after their calls were reset. Without it a client can start any number of
	// handlers (CVE-2023-44487, "rapid reset").
	CallsPerConnection uint32
	// MetadataSize is how many bytes the metadata of one call may have, as HTTP/2
	// counts them: each entry counts 32 bytes more.
	MetadataSize uint32
	// MessageSize is how many bytes one message of a client may have.
	MessageSize int
	// StreamWindow is how many bytes of one stream may be under way: see package window.
	StreamWindow int32
	// Handshake is how long a client may take from connecting to the end of the TLS
	// handshake and HTTP/2's preface.
	Handshake time.Duration
	// After PingAfter without a message from the client, the server pings it. If the
	// answer takes longer than PingTimeout, the server closes the connection.
	PingAfter, PingTimeout time.Duration
	// After ConnectionAge a connection takes no new calls, and after ConnectionGrace
	// more it is closed. Zero is never.
	ConnectionAge, ConnectionGrace time.Duration
}

// DefaultLimits returns the limits without options. grpc-go has no limit by default for
// most of them.
func DefaultLimits() Limits {
	return Limits{
		Connections:        10_000,
		ConnectionsPerHost: 2_000,
		CallsPerConnection: 1_000,
		MetadataSize:       64 << 10,
		MessageSize:        4 << 20,
		StreamWindow:       window.Default,
		Handshake:          20 * time.Second,
		PingAfter:          time.Minute,
		PingTimeout:        20 * time.Second,
	}
}

// options returns the options of a server that limit its clients. The listener limits the
// connections.
func (l Limits) options() []grpc.ServerOption {
	return append(window.ServerOptions(l.StreamWindow),
		grpc.MaxConcurrentStreams(l.CallsPerConnection),
		grpc.MaxHeaderListSize(l.MetadataSize),
		grpc.MaxRecvMsgSize(l.MessageSize),
		grpc.ConnectionTimeout(l.Handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: l.PingAfter, Timeout: l.PingTimeout,
			MaxConnectionAge: l.ConnectionAge, MaxConnectionAgeGrace: l.ConnectionGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}))
}

// checkGrace returns an error if connections are closed before calls that began on them
// have had their declared time.
func (l Limits) checkGrace(declared map[string]timeout.Method) error {
	if l.ConnectionGrace == 0 {
		return nil
	}
	for _, path := range slices.Sorted(maps.Keys(declared)) {
		if method := declared[path]; method.Limit.Duration > l.ConnectionGrace {
			return fmt.Errorf("option MaxConnectionAge: the grace of %v is less than the timeout of %s, which is %v: its calls would be cut off; give more, or 0 to wait for every call",
				l.ConnectionGrace, method.RPC, method.Limit.Duration)
		}
	}
	return nil
}
