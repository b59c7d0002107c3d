package framework

import (
	"fmt"
	"time"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
)

// minPingAfter is how often a client of grpc-go pings at most. A service accepts a ping
// every 5 s, so a bus cannot ping it too often.
const minPingAfter = 10 * time.Second

// Keepalive sets how a service and a bus find connections whose other end is gone. After
// the time after without a message from the other side, this side sends a ping. If there
// is no answer within timeout, it closes the connection.
//
// after is 10 s at least, and timeout is more than zero. The defaults of a service are
// 1 min and 20 s, those of a bus 6 min and 20 s. A bus finds silent instances within some
// 20 s by calls of the health service, whatever this option says.
//
// Every Serve accepts what a bus may send, and each bus answers a service. A plain gRPC
// server accepts a ping every 5 min by default, and ends the connection of a bus that
// sends more.
func Keepalive(after, timeout time.Duration) Option {
	check := func() error {
		if after < minPingAfter || timeout <= 0 {
			return fmt.Errorf("option Keepalive: a ping after %v with a timeout of %v: give %v at least and a timeout of more than zero", after, timeout, minPingAfter)
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Limits.PingAfter, o.Limits.PingTimeout = after, timeout
			return check()
		},
		busOption: func(o *client.Options) error {
			o.Limits.PingAfter, o.Limits.PingTimeout = after, timeout
			return check()
		},
	}
}

// MaxConnectionAge sets after which time a connection to a service takes no new calls. Its
// client makes another connection, possibly to another instance behind a layer-4 load
// balancer. Connections get a random age of a tenth less or more, so that they do not end
// together. The default is no limit: a bus needs none, because it learns of new instances
// from the registry.
//
// Calls that began on the connection go on. grace is how long they may take before they
// are cut off. 0 means as long as they take, also for streams. It must not be less than
// the declared timeout of an RPC of the service; otherwise the service does not start.
func MaxConnectionAge(age, grace time.Duration) ServeOption {
	return serveOption(func(o *server.Options) error {
		if age <= 0 || grace < 0 {
			return fmt.Errorf("option MaxConnectionAge: an age of %v with a grace of %v: give an age of more than zero, or leave the option out, and a grace of zero or more", age, grace)
		}
		o.Limits.ConnectionAge, o.Limits.ConnectionGrace = age, grace
		return nil
	})
}

// ConnectBackoff sets how long a bus waits before it connects again to an instance to which
// it could not connect: first at first, then each time 1.6 times as long, up to most. Each
// wait is random, by a fifth less or more. Meanwhile the bus calls other instances. first
// is more than zero, and most is not less. The defaults are 1 s and 2 min. An instance
// that the registry reports as new is connected to at once.
func ConnectBackoff(first, most time.Duration) BusOption {
	return busOption(func(o *client.Options) error {
		if first <= 0 || most < first {
			return fmt.Errorf("option ConnectBackoff: %v and %v: give a first wait of more than zero, and a longest one that is not less", first, most)
		}
		o.Limits.FirstBackoff, o.Limits.MaxBackoff = first, most
		return nil
	})
}
