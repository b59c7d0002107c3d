package framework

import (
	"fmt"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/framework/internal/window"
)

// StreamWindow sets how many bytes the other side may send on one stream before this side
// has read them. More waits at the sender. A single message may be larger while the program
// waits for it, as a handler does for its request. It is from 65,536 to 16,777,216, or 0.
// The default is 4 MiB, which is also the default of [MaxMessageSize].
//
// A stream transfers at most one window in a round trip of the network: 4 MiB at 50 ms are
// 80 MiB a second. With 0, grpc-go measures the network and makes the windows larger, up to
// 16 MiB, as it does by itself. For that each side sends a ping with almost each message
// that arrives alone. Set 0, or a larger window, for streams of much data over a long
// distance.
func StreamWindow(size int) Option {
	check := func() error {
		if size != 0 && (size < window.Least || size > window.Most) {
			return fmt.Errorf("option StreamWindow: %d bytes are not from %d to %d; 0 has grpc-go measure the network", size, window.Least, window.Most)
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Limits.StreamWindow = int32(size) //nolint:gosec // checked
			return check()
		},
		busOption: func(o *client.Options) error {
			o.Limits.StreamWindow = int32(size) //nolint:gosec // checked
			return check()
		},
	}
}
