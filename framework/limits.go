package framework

import (
	"fmt"
	"math"
	"time"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
)

// MaxConnections sets how many connections a service has at the same time, and how many of
// them may come from one host. Both are more than zero. The defaults are 10,000 and 2,000.
// The service closes further connections at once. A bus then calls another instance: the
// call was not sent.
//
// A bus has one connection to an instance for each API that it calls. Of an IPv6 address
// the first 64 bits are the host. If clients come through a proxy or address translation,
// they share a host, so perHost must be as large as all. An idle connection takes about
// 50 KiB.
func MaxConnections(all, perHost int) ServeOption {
	return serveOption(func(o *server.Options) error {
		if all < 1 || perHost < 1 {
			return fmt.Errorf("option MaxConnections: %d and %d are not both more than zero: a service needs connections", all, perHost)
		}
		o.Limits.Connections, o.Limits.ConnectionsPerHost = all, perHost
		return nil
	})
}

// MaxCallsPerConnection sets how many calls one connection to a service may have under
// way. It is more than zero. The default is 1,000. Further calls wait at the client, until
// their deadline. Handlers that still run after their calls were reset count too.
//
// It limits what one connection can take. [MaxInFlight] limits what all take together.
func MaxCallsPerConnection(calls uint32) ServeOption {
	return serveOption(func(o *server.Options) error {
		if calls < 1 {
			return fmt.Errorf("option MaxCallsPerConnection: %d is not more than zero: a connection without calls has no use", calls)
		}
		o.Limits.CallsPerConnection = calls
		return nil
	})
}

// minMetadataSize leaves room for gRPC's own entries and ours.
const minMetadataSize = 4 << 10

// MaxMetadataSize sets how many bytes of metadata the other side may send with one call.
// Each entry counts its key, its value and 32 bytes, as HTTP/2 counts them. It is 4,096 at
// least. The default of a service is 64 KiB, and that of a bus is grpc-go's 16 MiB.
// grpc-go does not send a call with more metadata than the other side takes: its outcome
// is NotSent.
func MaxMetadataSize(size uint32) Option {
	check := func() error {
		if size < minMetadataSize {
			return fmt.Errorf("option MaxMetadataSize: %d bytes are less than %d: gRPC's own entries and the identity of a call need room", size, minMetadataSize)
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Limits.MetadataSize = size
			return check()
		},
		busOption: func(o *client.Options) error {
			o.Limits.MetadataSize = size
			return check()
		},
	}
}

// MaxMessageSize sets how many bytes one message of the other side may have: a request at a
// service, a reply at a bus. A compressed message counts as large as it is without
// compression. It is from 1 to 2,147,483,647. The default is 4 MiB. A larger message fails
// with RESOURCE_EXHAUSTED before it is read. At a service the handler does not start then.
// At a bus the call ran, and its reply is lost.
func MaxMessageSize(size int) Option {
	check := func() error {
		if size < 1 || size > math.MaxInt32 {
			return fmt.Errorf("option MaxMessageSize: %d bytes are not from 1 to %d", size, math.MaxInt32)
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Limits.MessageSize = size
			return check()
		},
		busOption: func(o *client.Options) error {
			o.Limits.MessageSize = size
			return check()
		},
	}
}

// HandshakeTimeout sets how long a connection may take to be made: TCP, TLS and HTTP/2's
// preface. It is more than zero. The default is 20 s. A service then closes the
// connection. A bus tries again after a backoff, and meanwhile calls other instances.
func HandshakeTimeout(limit time.Duration) Option {
	check := func() error {
		if limit <= 0 {
			return fmt.Errorf("option HandshakeTimeout: %v is not more than zero: a handshake takes time", limit)
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Limits.Handshake = limit
			return check()
		},
		busOption: func(o *client.Options) error {
			o.Limits.Handshake = limit
			return check()
		},
	}
}
