package server

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/contextkey"
)

// The states of a call. It leaves pending or unseen once, for started or ended.
const (
	pending int32 = iota
	// unseen: its service is not instrumented, so nothing notes that its handler starts.
	unseen
	// started: its handler started.
	started
	// ended: the call ended first. The caller reads "refused", so the handler must
	// not start any more, even if an interceptor's goroutine still waits to call it.
	ended
)

// The phases of a call.
const (
	arrived int32 = iota
	// accepted: its number was marked, but a copy may run at another instance, because
	// the ledger does not have its key.
	accepted
	// sole: its number was marked, and no copy runs anywhere.
	sole
	// foreign: it is bound to another instance, and the ledger has its key.
	foreign
	// finished: it has ended, and is not marked from then on.
	finished
)

// serverCall is a call at the server, and the context that carries it to where its
// handler starts. Its incoming metadata has no reserved keys: an identity is a
// secret, which a handler that passes its metadata on must not pass on.
type serverCall struct {
	context.Context //nolint:containedctx // it is one, so that a call needs no other

	state, phase atomic.Int32
	// streamTaken is whether the program may have grpc-go's stream, on which it can
	// set trailers.
	streamTaken atomic.Bool
	// entered is whether the interceptor of a unary call was called, or the handler
	// of a stream with a single request.
	entered atomic.Bool
	// visible is the incoming metadata without reserved keys, once it was read.
	visible atomic.Pointer[metadata.MD]

	server *Server
	marked marked
	taken  *taken // nil if the ledger does not have its key, or remembers no ends

	// outlives is whether the context goes on when the connection is lost, as
	// outliving, which is nil until it is needed.
	outlives  bool
	outliving atomic.Pointer[outliving]

	// These are a unary call's: what reads its request, and why that failed; the gRPC
	// server's interceptor, nil if it has none; its method and its handler.
	read        func(any) error
	unread      error
	interceptor grpc.UnaryServerInterceptor
	info        *grpc.UnaryServerInfo
	handler     grpc.UnaryHandler
}

type (
	callKey  struct{}
	drainKey struct{}
)

// Done implements [context.Context].
func (c *serverCall) Done() <-chan struct{} {
	if !c.outlives {
		return c.Context.Done()
	}
	return c.outlive().Done()
}

// Err implements [context.Context].
func (c *serverCall) Err() error {
	if !c.outlives || c.outliving.Load() == nil && c.Context.Err() == nil {
		return c.Context.Err()
	}
	return c.outlive().Err()
}

// Value implements [context.Context].
func (c *serverCall) Value(key any) any {
	switch key {
	case callKey{}:
		return c
	case contextkey.Incoming:
		return c.incoming()
	case contextkey.Stream:
		c.streamTaken.Store(true)
	case contextkey.Cause: // contexts that derive from this one join it by this key
		if c.outlives {
			return c.outlive().Value(key)
		}
	case drainKey{}:
		var drained <-chan struct{} = c.server.drained // which only receives
		return drained
	}
	return c.Context.Value(key)
}

// callOf returns the call of a context, nil if it has none.
func callOf(ctx context.Context) *serverCall {
	if call, ok := ctx.(*serverCall); ok { // mostly, and much faster
		return call
	}
	call, _ := ctx.Value(callKey{}).(*serverCall)
	return call
}

// MethodOf returns gRPC's path of the method whose handler a call will run, from the
// context of an interceptor. For a unary call of an instrumented service this is the path
// that was registered, whatever the method passes to its interceptor. MethodOf returns
// "" for any other context, and for calls of exempt services.
func MethodOf(ctx context.Context) string {
	if call := callOf(ctx); call != nil {
		return call.marked.method
	}
	return ""
}

// DrainOf returns the channel that [Server.Drain] closes, from the context of a
// handler of that server. It returns nil, on which a receive waits forever, for any
// other context and for that of a service that is not instrumented.
func DrainOf(ctx context.Context) <-chan struct{} {
	drained, _ := ctx.Value(drainKey{}).(<-chan struct{})
	return drained
}

// HandlerStarted reports whether the handler of a call has started. ctx is a context of the
// call. It is false for a context without a call, and for the call of a service that is not
// instrumented.
func HandlerStarted(ctx context.Context) bool {
	call := callOf(ctx)
	return call != nil && call.state.Load() == started
}

// incoming returns the incoming metadata without reserved keys.
func (c *serverCall) incoming() any {
	if visible := c.visible.Load(); visible != nil {
		return *visible
	}
	incoming, ok := c.Context.Value(contextkey.Incoming).(metadata.MD)
	if !ok {
		return nil
	}
	visible := atmostonce.WithoutReserved(incoming)
	c.visible.Store(&visible)
	return visible
}

// hasReservedTrailer reports whether the program has set a trailer with a
// reserved key on grpc-go's stream.
func (c *serverCall) hasReservedTrailer() bool {
	if !c.streamTaken.Load() {
		return false
	}
	stream, ok := grpc.ServerTransportStreamFromContext(c.Context).(interface{ Trailer() metadata.MD })
	return ok && atmostonce.HasReserved(stream.Trailer())
}

// start is called immediately before the handler. It returns an error if the handler must
// not start.
func (c *serverCall) start() error {
	if c.state.CompareAndSwap(pending, started) {
		return nil
	}
	if c.state.Load() == ended {
		return errEnded
	}
	return errTwice
}

// end is called when a call ends. It returns what became of the handler, which does not
// start from then on, or "" if that is not known.
func (c *serverCall) end() outcomeTrailer {
	if c.state.Load() == pending {
		c.state.CompareAndSwap(pending, ended)
	}
	switch c.state.Load() {
	case ended:
		return atmostonce.OutcomeRefused
	case unseen:
		return ""
	default:
		return atmostonce.OutcomeExecuted
	}
}

// accept notes that the call was marked. It reports false, and ends what was marked, if
// the call has already ended: an interceptor did not wait for its admission.
func (c *serverCall) accept(phase int32) bool {
	if c.phase.CompareAndSwap(arrived, phase) {
		return true
	}
	if phase != foreign {
		c.server.sessions.end(&c.marked, fateUnknown, nil)
	}
	return false
}

// decode reads a unary call's request.
func (c *serverCall) decode(req any) error {
	c.unread = c.read(req)
	return c.unread
}

// serverStream is a stream whose context carries its call. What the program sets on
// it has no reserved keys.
type serverStream struct {
	grpc.ServerStream

	call serverCall
}

// Context implements [grpc.ServerStream].
func (s *serverStream) Context() context.Context { return &s.call }

// SetHeader implements [grpc.ServerStream].
func (s *serverStream) SetHeader(md metadata.MD) error {
	return s.ServerStream.SetHeader(atmostonce.WithoutReserved(md))
}

// SendHeader implements [grpc.ServerStream].
func (s *serverStream) SendHeader(md metadata.MD) error {
	return s.ServerStream.SendHeader(atmostonce.WithoutReserved(md))
}

// SetTrailer implements [grpc.ServerStream].
func (s *serverStream) SetTrailer(md metadata.MD) {
	s.ServerStream.SetTrailer(atmostonce.WithoutReserved(md))
}

var (
	// errLost is the error of a call whose state an interceptor lost.
	errLost = status.Error(codes.Internal, "the call's handler was not run: its context does not derive from the one that the call came with; an interceptor replaced it")
	// errTwice is the error of a second start of one handler.
	errTwice = refusal(atmostonce.DuplicateCall, "the handler of the call was started before: an interceptor of the server calls it twice")
	// errEnded is the error of a call that ended before its handler was called.
	errEnded = status.Error(codes.Canceled, "the call has ended before its handler started")
)
