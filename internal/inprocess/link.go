package inprocess

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Link is a connection whose two ends are in this process. Its methods are safe for all
// goroutines.
type Link struct {
	server *Server
	// values is the context of a call on the connection, without its end.
	values context.Context //nolint:containedctx // calls have its values
	// base is the metadata that each call on the connection arrives with.
	base []entry
	// peer is the server as the caller sees it.
	peer    peer.Peer
	running atomic.Int64
}

// Caller is what a call needs of the caller's end.
type Caller struct {
	// Metadata is the call's.
	Metadata metadata.MD
	Options  []grpc.CallOption
	// Life ends when the caller closes the connection.
	Life context.Context //nolint:containedctx // of the connection, not of the call
}

var (
	errEnded  = status.Error(codes.Unavailable, "the instance has ended, and its connections with it")
	errClosed = status.Error(codes.Canceled, "the connection was closed by its caller")
)

// call is a call over a link, at both ends. It is the [grpc.ServerTransportStream] of the
// server's end.
type call struct {
	link   *Link
	method string
	caller Caller
	limits limits

	// ctx is the context of the handler, which ending ends.
	ctx    context.Context //nolint:containedctx // it is a running thing
	ending interface{ end() }
	// replies are the messages of the server; nil for unary calls.
	replies *queue
	// finished is closed when the server has sent the end of the call. That of a unary call
	// receives instead.
	finished chan struct{}

	mu sync.Mutex // guards the fields below
	// header and trailer are what the server has set.
	header, trailer metadata.MD
	// headerSent is whether the header has left. bare is whether the end left without one.
	headerSent, bare bool
	// ended is whether the server has sent the end before the caller left, and left whether
	// the caller left before it. done is whether the server can send nothing more, which it
	// can after the caller has lost the connection.
	ended, left, done bool
	status            *status.Status // nil for OK; set with ended
	sent              chan struct{}  // closed when the header has left; nil for unary calls
}

// enter counts a call until leave. It returns false if the network must be used.
func (l *Link) enter() bool {
	if l.running.Add(1) > l.server.perConnection || !l.server.begin() {
		l.running.Add(-1)
		return false
	}
	return true
}

// leave counts the end of a call.
func (l *Link) leave() {
	l.running.Add(-1)
	l.server.done()
}

// Method implements [grpc.ServerTransportStream].
func (c *call) Method() string { return c.method }

// errSent is the error of metadata that is set too late.
var errSent = status.Error(codes.Internal, "transport: SendHeader called multiple times")

// SetHeader implements [grpc.ServerTransportStream].
func (c *call) SetHeader(md metadata.MD) error {
	if md.Len() == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.headerSent || c.done {
		return errSent
	}
	c.header = metadata.Join(c.header, md)
	return nil
}

// SendHeader implements [grpc.ServerTransportStream].
func (c *call) SendHeader(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.done:
		return c.reason()
	case c.headerSent:
		return errSent
	}
	if md.Len() > 0 {
		c.header = metadata.Join(c.header, md)
	}
	c.sendHeader()
	return nil
}

// sendHeader notes that the header has left. c.mu is held.
func (c *call) sendHeader() {
	if !c.headerSent {
		c.headerSent = true
		if c.sent != nil {
			close(c.sent)
		}
	}
}

// SetTrailer implements [grpc.ServerTransportStream].
func (c *call) SetTrailer(md metadata.MD) error {
	if md.Len() == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return errSent
	}
	c.trailer = metadata.Join(c.trailer, md)
	return nil
}

// Trailer returns what the server has set, as grpc-go's stream does.
func (c *call) Trailer() metadata.MD {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trailer.Copy()
}

// reason returns the error of what a server sends after the caller has ended the call.
func (c *call) reason() error {
	if err := c.ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Canceled, context.Canceled.Error())
}

// finish sends the end of the call, unless it has ended.
func (c *call) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left || c.ended {
		return
	}
	c.done, c.ended = true, true
	if err != nil {
		c.status = sent(err)
	}
	if !c.headerSent {
		c.bare = c.status != nil && len(c.header) == 0
		c.sendHeader()
	}
	if c.replies == nil {
		c.finished <- struct{}{} // there is room for one
		return
	}
	close(c.finished)
	c.replies.close()
}

// WriteStatus sends the end of the call, as that of grpc-go's stream does.
func (c *call) WriteStatus(st *status.Status) error {
	c.finish(st.Err())
	return nil
}

// abandon ends the call for its caller, which leaves. canceled says that the handler learns
// it as the end of the call; otherwise it does as the loss of the connection. It returns
// false if the server has sent the end before.
func (c *call) abandon(canceled bool) bool {
	c.mu.Lock()
	ended := c.ended
	if !ended {
		c.left, c.done = true, canceled
	}
	c.mu.Unlock()
	if !ended {
		c.ending.end() // after done is set, which says why
	}
	return !ended
}

// sent returns the status that arrives for an error of the server.
func sent(err error) *status.Status {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	if whole := st.Proto(); len(whole.GetDetails()) > 0 { // a copy
		if _, err := marshal(whole); err == nil {
			return status.FromProto(whole)
		}
	}
	return status.New(st.Code(), string([]rune(st.Message()))) // as it arrives, in UTF-8
}

// arrivedHeader returns the header as it arrives at the caller.
func (c *call) arrivedHeader() metadata.MD {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.headerSent || c.bare {
		return nil
	}
	return withContentType(c.header)
}

// arrivedTrailer returns the trailer as it arrives at the caller.
func (c *call) arrivedTrailer() metadata.MD {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trailerLocked()
}

// trailerLocked is arrivedTrailer. c.mu is held.
func (c *call) trailerLocked() metadata.MD {
	if !c.ended {
		return nil
	}
	md := visible(c.trailer)
	if c.bare {
		md = withContentType(c.trailer)
	}
	if details := c.status.Proto(); len(details.GetDetails()) > 0 {
		if data, err := marshal(details); err == nil {
			md[detailsKey] = []string{string(data)}
		}
	}
	return md
}

// visible returns the metadata that gRPC sends.
func visible(md metadata.MD) metadata.MD {
	out := make(metadata.MD, len(md)+1)
	for key, values := range md {
		if !isReserved(key) && len(values) > 0 {
			out[key] = values
		}
	}
	return out
}

func withContentType(md metadata.MD) metadata.MD {
	out := visible(md)
	out[contentType] = []string{grpcContent}
	return out
}

// info returns how the call ended, for the balancer.
func (c *call) info(err error) balancer.DoneInfo {
	info := balancer.DoneInfo{Err: err, BytesSent: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	info.BytesReceived = c.headerSent
	if c.ended && (err != nil || len(c.trailer) > 0) {
		info.Trailer = c.trailerLocked()
	}
	return info
}

// lag is how much later than its caller's the deadline of a handler is. Over the network it
// is later by the time that the request travels. Without it, the error of a handler that
// ends at its deadline would reach the caller as often as the caller's own.
const lag = time.Millisecond

// errNoMessage is grpc-go's error of a call that ends with OK and without its reply.
var errNoMessage = status.Error(codes.Internal, "cardinality violation: received no response message from non-server-streaming RPC")
