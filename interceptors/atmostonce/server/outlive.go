package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// outliving is the context of a unary call that goes on when the connection of its caller
// is lost: what has begun to change something is finished. It ends with the call's
// deadline, when the caller cancels the call, when the handler returns, and with
// [Server.EndCalls]. It is made when the handler first asks for its end, so that
// other calls pay nothing for it.
type outliving struct {
	ctx    context.Context //nolint:containedctx // it is one
	cancel context.CancelFunc
	stop   func() bool
}

// returned takes the place of the context once the handler has returned: none is made from
// then on.
var returned = new(outliving)

// outlive returns the context of a call that outlives its connection.
func (c *serverCall) outlive() context.Context {
	if c.outliving.Load() == nil {
		if made := c.newOutliving(); !c.outliving.CompareAndSwap(nil, made) {
			made.end()
		}
	}
	if made := c.outliving.Load(); made != returned {
		return made.ctx
	}
	return c.Context
}

func (c *serverCall) newOutliving() *outliving {
	o := new(outliving)
	if deadline, ok := c.Deadline(); ok {
		o.ctx, o.cancel = context.WithDeadline(c.server.life, deadline)
	} else {
		o.ctx, o.cancel = context.WithCancel(c.server.life)
	}
	if c.Context.Err() != nil { // else a first call of Err could be too early
		c.arrivalEnded(o.cancel)
	} else {
		o.stop = context.AfterFunc(c.Context, func() { c.arrivalEnded(o.cancel) })
	}
	return o
}

// end releases the context.
func (o *outliving) end() {
	if o.stop != nil {
		o.stop()
	}
	o.cancel()
}

// arrivalEnded is called when the context with which the call arrived has ended. cancel
// ends the one that outlives it.
func (c *serverCall) arrivalEnded(cancel context.CancelFunc) {
	// At the deadline, at which grpc-go may also cancel, the other context ends by itself.
	if deadline, ok := c.Deadline(); ok && !time.Now().Before(deadline) {
		return
	}
	if !disconnected(c.Context) {
		cancel()
	}
}

// endOutliving releases the context of a call whose handler has returned.
func (c *serverCall) endOutliving() {
	if made := c.outliving.Swap(returned); made != nil && made != returned {
		made.end()
	}
}

// disconnected reports whether the context of a call was canceled because its connection
// was lost. Otherwise its caller has canceled it, or the call has ended. Only then
// grpc-go's stream is done, before its context is canceled, and refuses a trailer.
func disconnected(ctx context.Context) bool {
	stream := grpc.ServerTransportStreamFromContext(ctx)
	return stream != nil && stream.SetTrailer(metadata.Pairs(atmostonce.IncarnationKey, "")) == nil
}

// EndCalls ends the contexts of calls that go on when their connection is lost. Call it
// before [grpc.Server.Stop], which takes all connections away.
func (s *Server) EndCalls() { s.endCalls() }
