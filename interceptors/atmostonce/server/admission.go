package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// UnaryServerInterceptor returns the interceptor that admits unary calls of
// services that are not instrumented: see [Server.Instrument]. Calls of
// instrumented services were admitted before it.
//
// The error of a refused call is FAILED_PRECONDITION, or INVALID_ARGUMENT for a
// malformed identity, with a google.rpc.ErrorInfo: see [atmostonce.ReasonOf].
// Every error reply of an identified call has the trailer
// [atmostonce.IncarnationKey]. If the service is instrumented, that of an admitted
// call has [atmostonce.OutcomeKey] too; else the server does not know whether the
// handler ran. An error of sending the reply, such as one over the limit of size,
// is grpc-go's own and has neither.
func (s *Server) UnaryServerInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
		if call := callOf(ctx); call != nil && call.server == s {
			return handler(ctx, req)
		}
		if s.exempt(info.FullMethod) {
			s.introduce(ctx, info.FullMethod)
			return handler(ctx, req)
		}
		call := &serverCall{Context: ctx, server: s, marked: marked{method: info.FullMethod}}
		call.state.Store(unseen)
		defer func() { s.finish(call, false, nil, nil, false) }() // also after a panic or runtime.Goexit
		if s.config.BeforeUnary == nil {
			return s.admitUnary(call, call, req, handler)
		}
		return s.before(call, call, req, info, func(ctx context.Context, req any) (any, error) { return s.admitUnary(ctx, call, req, handler) })
	}
}

// admitUnary admits a unary call of a service that is not instrumented, and runs its
// handler.
func (s *Server) admitUnary(ctx context.Context, call *serverCall, req any, handler grpc.UnaryHandler) (reply any, err error) {
	identified, err := s.admit(ctx, call)
	if err != nil {
		return nil, err
	}
	failed := true // also after a panic or runtime.Goexit
	defer func() { s.end(call, identified, failed, call.end()) }()
	reply, err = handler(ctx, req)
	failed = err != nil
	return reply, err
}

// before runs BeforeUnary, with admit as its handler unless the call's context was
// lost.
func (s *Server) before(ctx context.Context, call *serverCall, req any, info *grpc.UnaryServerInfo, admit grpc.UnaryHandler) (any, error) {
	return s.config.BeforeUnary(ctx, req, info, func(ctx context.Context, req any) (any, error) {
		if ctx == nil || callOf(ctx) != call {
			return nil, errBefore
		}
		return admit(ctx, req)
	})
}

// errBefore is the error of a call whose context was lost before its admission.
var errBefore = status.Error(codes.Internal, "the call was refused: an interceptor before admission, or the function of option Authenticate, "+
	"passed on a context that does not derive from the one that it was called with")

// StreamServerInterceptor returns the interceptor that admits streams, each once, at
// its start: see [Server.UnaryServerInterceptor].
func (s *Server) StreamServerInterceptor() grpc.StreamServerInterceptor {
	return s.serveStream
}

// serveStream admits a stream and runs its handler, which may be that of the next
// interceptor.
func (s *Server) serveStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	wrapped := &serverStream{ServerStream: stream, call: serverCall{Context: stream.Context(), server: s, marked: marked{method: info.FullMethod}}}
	keeps, instrumented := (*s.instrumented.Load())[info.FullMethod]
	if s.exempt(info.FullMethod) {
		s.introduce(wrapped.call.Context, info.FullMethod)
		if instrumented {
			stream = wrapped
		}
		return s.aroundStream(srv, stream, info, handler)
	}
	if !instrumented {
		wrapped.call.state.Store(unseen)
	}
	returned := false
	defer func() { s.finish(&wrapped.call, keeps, nil, err, returned) }() // also after a panic or runtime.Goexit
	err = s.aroundStream(srv, wrapped, info, func(srv any, stream grpc.ServerStream) error {
		return s.arrivedStream(srv, stream, &wrapped.call, info, handler)
	})
	returned = true
	return err
}

// aroundStream runs AroundStream, if there is one.
func (s *Server) aroundStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if s.config.AroundStream == nil {
		return handler(srv, stream)
	}
	return s.config.AroundStream(srv, stream, info, handler)
}

// arrivedStream runs inside of AroundStream.
func (s *Server) arrivedStream(srv any, stream grpc.ServerStream, call *serverCall, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := stream.Context()
	if ctx == nil || callOf(ctx) != call {
		return errLost
	}
	if s.config.BeforeStream == nil {
		return s.admitStream(srv, stream, call, handler)
	}
	return s.config.BeforeStream(srv, stream, info, func(srv any, stream grpc.ServerStream) error {
		if ctx := stream.Context(); ctx == nil || callOf(ctx) != call {
			return errBefore
		}
		return s.admitStream(srv, stream, call, handler)
	})
}

// admitStream admits a stream of a service that is not exempt, and runs its handler.
func (s *Server) admitStream(srv any, stream grpc.ServerStream, call *serverCall, handler grpc.StreamHandler) error {
	identified, err := s.admit(stream.Context(), call)
	if err != nil {
		return err
	}
	failed := true // also after a panic or runtime.Goexit
	defer func() {
		if isUnknownMethod(err) {
			call.state.CompareAndSwap(unseen, ended) // there is no handler
		}
		s.end(call, identified, failed, call.end())
	}()
	err = handler(srv, stream)
	failed = err != nil
	return err
}

// end sets the trailers of a call that ends.
func (s *Server) end(call *serverCall, identified, failed bool, outcome outcomeTrailer) {
	switch {
	case !identified:
	case failed:
		s.setTrailer(call.Context, outcome)
	case call.hasReservedTrailer():
		// The program has set trailers with reserved keys, which grpc-go cannot
		// remove. With ours added, the caller finds two values and believes
		// neither. It would believe one if the reply turned out to be too large.
		s.setTrailer(call.Context, outcome)
	}
}

// exempt reports whether a path is of an exempt service.
func (s *Server) exempt(path string) bool {
	path = strings.TrimPrefix(path, "/")
	return s.config.Exempt(path[:max(strings.LastIndexByte(path, '/'), 0)])
}

// admit admits a call, or returns the error that refuses it. identified is whether
// the call has an identity that was marked. ctx is the context that interceptors
// before admission passed on.
func (s *Server) admit(ctx context.Context, call *serverCall) (identified bool, err error) {
	values := incomingValues(call.Context, atmostonce.CallKey)
	if len(values) == 0 {
		if s.config.RequireIdentity {
			return false, s.refuse(ctx, atmostonce.IdentityRequired, "", "the call has no identity, and the service requires one: call it on a onecall bus")
		}
		s.anonymous.Add(1)
		return false, nil
	}
	identity, err := soleIdentity(values)
	if err != nil {
		return false, s.refuse(ctx, atmostonce.MalformedIdentity, "", fmt.Sprintf("the call's identity in the metadata key %q is malformed: %v", atmostonce.CallKey, err))
	}
	if identity.Incarnation != s.config.Incarnation && s.config.Ledger != nil {
		if err := s.begin(ctx, call, identity); err != nil {
			return true, err
		}
		if !call.accept(foreign) {
			return false, errEnded
		}
		return true, nil
	}
	if identity.Incarnation != s.config.Incarnation {
		return false, s.refuse(ctx, atmostonce.WrongInstance, "", fmt.Sprintf("the call is bound to the instance %s, and reached the instance %s: "+
			"the first one has ended, or a proxy chose another one", identity.Incarnation, s.incarnation))
	}
	if result := s.sessions.admit(principalOf(ctx, s.sessions.seed), identity.Session, identity.Seq, &call.marked); result != admitted {
		return false, s.refuseResult(ctx, identity, result)
	}
	phase := sole
	if s.config.Ledger != nil {
		phase = accepted
	}
	if !call.accept(phase) {
		return false, errEnded
	}
	if s.config.Ledger != nil {
		if err := s.begin(ctx, call, identity); err != nil {
			return true, err
		}
		call.phase.CompareAndSwap(accepted, sole)
	}
	if s.draining.Load() {
		// The identity is marked, here and in the ledger, so no copy of the call runs either.
		call.state.Store(ended)
		return false, s.refuse(ctx, atmostonce.Draining, atmostonce.OutcomeRefused, "the instance is draining and takes no new calls: retry the call at another instance")
	}
	return true, nil
}

// begin calls the ledger. It returns the error that refuses the
// call when the call began before, or when the ledger cannot say.
func (s *Server) begin(ctx context.Context, call *serverCall, identity atmostonce.Identity) error {
	fresh, err := s.take(ctx, call, atmostonce.LedgerKey(identity))
	switch {
	case err != nil:
		// The error is not for the caller: it may say how the ledger is built.
		return s.refuse(ctx, atmostonce.LedgerUnavailable, "", "the call does not run, because the instance cannot find out whether it began before: the ledger that the instances share is unavailable")
	case !fresh:
		return s.refuseResult(ctx, identity, duplicate)
	default:
		return nil
	}
}

// soleIdentity parses the identity of a call, of which there must be one.
func soleIdentity(values []string) (atmostonce.Identity, error) {
	if len(values) != 1 {
		return atmostonce.Identity{}, fmt.Errorf("there are %d values instead of one", len(values))
	}
	identity, err := atmostonce.ParseIdentity(values[0])
	if err != nil && strings.Contains(values[0], ",") {
		err = errors.New("two values are joined by a comma")
	}
	return identity, err
}
