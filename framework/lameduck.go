package framework

import (
	"fmt"
	"time"

	"github.com/onecall-dev/onecall/framework/internal/server"
)

// LameDuck sets for how long after the beginning of its shutdown a service accepts every
// call, although it has left the registry and its health is NOT_SERVING. Set it if callers
// come through a load balancer that learns late that an instance ends, such as a Service of
// Kubernetes: 5 s is enough mostly. It is part of the [ShutdownTimeout], and half of it at
// most; otherwise the service does not start.
//
// The default is 0. Then a service accepts every call for 200 ms after the registry has the
// change, which is enough for buses. A bus retries a call that comes later at another
// instance.
func LameDuck(length time.Duration) ServeOption {
	return serveOption(func(o *server.Options) error {
		if length < 0 {
			return fmt.Errorf("option LameDuck: %v is less than zero", length)
		}
		o.LameDuck = length
		return nil
	})
}

// TerminationGracePeriod sets how long the platform waits after it has asked the process to
// end, until it kills it: terminationGracePeriodSeconds of Kubernetes without the time of
// preStop hooks, or TimeoutStopSec of systemd. A process cannot read it. If it is not more
// than the [ShutdownTimeout], the service does not start. It is more than zero.
//
// Without the option a service on Kubernetes or systemd logs a warning if its
// ShutdownTimeout is not less than the platform's default, which is 30 s and 90 s.
func TerminationGracePeriod(length time.Duration) ServeOption {
	return serveOption(func(o *server.Options) error {
		if length <= 0 {
			return fmt.Errorf("option TerminationGracePeriod: %v is not more than zero: leave the option out if the platform does not kill", length)
		}
		o.TerminationGrace = length
		return nil
	})
}
