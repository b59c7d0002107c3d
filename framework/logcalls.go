package framework

import (
	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
)

// LogCalls logs one line for each call of a service or a bus that failed, and at the level
// debug for each other call. The level is warn if the error is one of the service, such as
// INTERNAL or UNAVAILABLE, and info if it is one of its caller, such as NOT_FOUND.
//
// A line has the RPC, the code, the outcome, the time and the error, and at a bus the
// attempts and the instance. "call" is a hash of the call's identity, the same on both
// sides. No line has a message of the call. Errors of rules do not show the values of
// fields with debug_redact.
//
// The lines go to the logger of option [Logger], on a goroutine of their own: no call waits
// for the logger. While it is too slow, lines are dropped and counted. Before a line is
// made, the logger is asked whether its level is enabled. The end of the service or the
// bus waits for the last lines, for a second at most.
func LogCalls() Option {
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.LogCalls = true
			return nil
		},
		busOption: func(o *client.Options) error {
			o.LogCalls = true
			return nil
		},
	}
}
