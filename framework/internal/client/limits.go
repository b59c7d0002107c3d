package client

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/onecall-dev/onecall/framework/internal/window"
)

// Limits are the limits on the connections of a bus. The options of package framework set
// them, and document them.
type Limits struct {
	// MetadataSize and MessageSize are how many bytes of metadata and of one message an
	// instance may send. 0 means grpc-go's default.
	MetadataSize uint32
	MessageSize  int
	// StreamWindow is how many bytes of one stream may be under way: see package window.
	StreamWindow int32
	// Handshake is how long a connection may take to be made.
	Handshake time.Duration
	// PingTimeout makes Linux end a connection if sent data is not acknowledged within
	// it. Probes of the policy send data on each connection within 16 s. The pings of
	// HTTP/2 after PingAfter are for other systems.
	PingAfter, PingTimeout time.Duration
	// FirstBackoff and MaxBackoff are how long the bus waits before it connects again.
	FirstBackoff, MaxBackoff time.Duration
}

// defaultLimits returns the limits without options. By default grpc-go's servers allow one
// ping every 5 minutes, and end the connection after more.
func defaultLimits() Limits {
	return Limits{
		StreamWindow: window.Default,
		Handshake:    20 * time.Second,
		PingAfter:    6 * time.Minute,
		PingTimeout:  20 * time.Second,
		FirstBackoff: time.Second,
		MaxBackoff:   2 * time.Minute,
	}
}

// options returns the options of a connection.
func (l Limits) options() []grpc.DialOption {
	options := append(window.DialOptions(l.StreamWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: l.PingAfter, Timeout: l.PingTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: l.backoff(), MinConnectTimeout: l.Handshake}))
	if l.MessageSize > 0 { // the option takes each call an allocation
		options = append(options, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(l.MessageSize)))
	}
	if l.MetadataSize > 0 {
		options = append(options, grpc.WithMaxHeaderListSize(l.MetadataSize))
	}
	return options
}

func (l Limits) backoff() backoff.Config {
	return backoff.Config{BaseDelay: l.FirstBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: l.MaxBackoff}
}
