package framework

import (
	"context"

	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
)

// Draining returns a channel that is closed when the instance that runs a
// handler shuts down: it has left the registry and takes no new calls of a bus.
// ctx is the handler's context, or one that derives from it; any other has a nil
// channel, on which a receive waits forever.
//
// A handler that would otherwise run for long ends then, most of all a stream
// without an end, so that its caller goes on at another instance:
//
//	select {
//	case event := <-events:
//		err = stream.Send(event)
//	case <-framework.Draining(stream.Context()):
//		return status.Error(codes.Unavailable, "this instance shuts down: start the stream again")
//	}
//
// [ShutdownTimeout] says how long it has for that.
func Draining(ctx context.Context) <-chan struct{} { return server.DrainOf(ctx) }
