package atmostonce

import (
	"context"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// outcomeTrailer is a value of [OutcomeKey]; "" is none.
type outcomeTrailer string

// orRefused is the outcome of a call whose handler nobody was given.
func (o outcomeTrailer) orRefused() outcomeTrailer {
	if o == "" {
		return OutcomeRefused
	}
	return o
}

// The states of a call, of which the first to be left decides.
const (
	pending int32 = iota
	// started: its handler was begun.
	started
	// over: the call ended first. The caller is told "refused", so the handler
	// must not begin any more, in whatever goroutine it waits.
	over
)

// served is a call at the server, and the context that carries it to where its
// handler starts.
type served struct {
	context.Context //nolint:containedctx // it is one, so that a call needs no other

	state   atomic.Int32
	drained <-chan struct{} // see DrainOf
	// interceptor and handler are a unary call's: what runs around its handler,
	// and that.
	interceptor grpc.UnaryServerInterceptor
	handler     grpc.UnaryHandler
}

type (
	servedKey struct{}
	drainKey  struct{}
)

// Value implements [context.Context].
func (s *served) Value(key any) any {
	switch key.(type) {
	case servedKey:
		return s
	case drainKey:
		return s.drained
	}
	return s.Context.Value(key)
}

// DrainOf returns the channel that [Server.Drain] closes, from the context of a
// handler of that server; nil, on which a receive waits forever, from any other
// context and from that of a service that did not go through
// [Server.MarkStarted].
func DrainOf(ctx context.Context) <-chan struct{} {
	drained, _ := ctx.Value(drainKey{}).(<-chan struct{})
	return drained
}

// start is called immediately before the handler. An error is why it must not
// begin.
func (s *served) start() error {
	if s.state.CompareAndSwap(pending, started) {
		return nil
	}
	if s.state.Load() == over {
		return status.Error(codes.Canceled, "the call has ended before its handler began")
	}
	return refuse(DuplicateCall, "the handler of the call was begun before: an interceptor of the server calls it twice")
}

// end is called when a call ends with an error, and says what became of its
// handler. From then on it does not begin. s may be nil: nobody knows.
func (s *served) end() outcomeTrailer {
	switch {
	case s == nil:
		return ""
	case s.state.CompareAndSwap(pending, over), s.state.Load() == over:
		return OutcomeRefused
	default:
		return OutcomeExecuted
	}
}

// invoke runs a unary call's handler.
func (s *served) invoke(ctx context.Context, req any) (any, error) {
	if err := s.start(); err != nil {
		return nil, err
	}
	return s.handler(ctx, req)
}

// servedStream carries a served call in a stream's context.
type servedStream struct {
	grpc.ServerStream

	served served
}

// Context implements [grpc.ServerStream].
func (s *servedStream) Context() context.Context { return &s.served }

// MarkStarted returns a copy of a service's description, to be registered in its
// place, whose handlers note that they start: immediately before the service's
// own method, inside of every interceptor. It is how an error reply of an
// admitted call can say whether the handler ran. It also keeps an interceptor
// from running a handler twice, or after the call has ended.
//
// It costs a unary call 2 allocations and a stream 1. Streams marked so need
// [Server.StreamServerInterceptor], and interceptors inside of it must hand on
// contexts that derive from the stream's: else the call fails INTERNAL and its
// handler does not run.
func (s *Server) MarkStarted(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	marked := *desc
	marked.Methods = slices.Clone(desc.Methods)
	for i := range marked.Methods {
		marked.Methods[i].Handler = markUnary(marked.Methods[i].Handler, s.drained)
	}
	marked.Streams = slices.Clone(desc.Streams)
	for i := range marked.Streams {
		marked.Streams[i].Handler = markStream(marked.Streams[i].Handler)
	}
	s.mark(desc.ServiceName, desc.Streams)
	return &marked
}

// markUnary puts the note around what the generated code hands to interceptors.
func markUnary(method grpc.MethodHandler, drained <-chan struct{}) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		if interceptor == nil {
			return method(srv, ctx, decode, nil)
		}
		return method(srv, &served{Context: ctx, drained: drained, interceptor: interceptor}, decode, intercept)
	}
}

// intercept runs a call's interceptor with the call's own start as the handler.
func intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	call, ok := ctx.Value(servedKey{}).(*served)
	if !ok {
		return nil, errStray
	}
	call.handler = handler
	return call.interceptor(ctx, req, info, call.invoke)
}

func markStream(handler grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		call, ok := stream.Context().Value(servedKey{}).(*served)
		if !ok {
			return errStray
		}
		if err := call.start(); err != nil {
			return err
		}
		return handler(srv, stream)
	}
}

// errStray is of a call that lost its state.
var errStray = status.Error(codes.Internal, "onecall: the call's handler was not run: its context does not derive from the one that the call came with; an interceptor replaced it")
