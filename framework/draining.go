package framework

import (
	"context"

	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
)

// Draining returns a channel that is closed when the instance of a handler shuts down.
// Then the instance has left the registry and accepts no new calls of a bus. ctx is the
// handler's context, or one that derives from it. For any other context Draining returns
// a nil channel, on which a receive waits forever.
//
// A handler that can run for long should return then, above all the handler of an
// endless stream, so that its caller continues at another instance:
//
//	select {
//	case event := <-events:
//		err = stream.Send(event)
//	case <-framework.Draining(stream.Context()):
//		return status.Error(codes.Unavailable, "this instance shuts down: start the stream again")
//	}
//
// [ShutdownTimeout] sets how much time the handler has.
func Draining(ctx context.Context) <-chan struct{} { return server.DrainOf(ctx) }
