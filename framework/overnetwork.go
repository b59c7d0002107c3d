package framework

import "github.com/onecall-dev/onecall/framework/internal/client"

// OverNetwork has a bus make every call over the network, also to instances in its own
// process.
//
// Without it, a bus leaves the network out where both ends of a connection are in one
// process: it prefers such an instance to others, and its calls cost about a tenth of
// those over the network. Everything else is the same: messages are encoded and decoded,
// interceptors of both sides run, and deadlines, limits, errors and outcomes are those of
// the network. A call goes over the network nevertheless if it or its service has an option
// that only a connection can honour, such as a stats handler, a codec or a compressor; if
// something is between the two ends, such as a proxy or a dialer of the program; and if the
// instance refused the call before.
//
// Set it if the calls of a bus must be spread over all instances.
func OverNetwork() BusOption {
	return busOption(func(o *client.Options) error {
		o.InProcess = false
		return nil
	})
}
