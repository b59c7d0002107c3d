package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// UnaryServerInterceptor admits unary calls of methods that did not go through
// [Server.MarkStarted]; those that did were admitted before it.
//
// A refused call's error is FAILED_PRECONDITION, or INVALID_ARGUMENT for a
// malformed identity, with a google.rpc.ErrorInfo: see [atmostonce.ReasonOf]. Every error
// reply has the trailer [atmostonce.IncarnationKey], and that of an admitted call
// [atmostonce.OutcomeKey] too, if its service's description went through
// [Server.MarkStarted]; without that the server does not know whether the
// handler ran. An error of sending the reply, such as one over the limit of
// size, is grpc-go's own and has neither.
func (s *Server) UnaryServerInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
		if call, marked := ctx.Value(servedKey{}).(*served); marked && call.server == s {
			return handler(ctx, req)
		}
		if s.exempt(info.FullMethod) {
			s.introduce(ctx, info.FullMethod)
			return handler(ctx, req)
		}
		call := &served{Context: ctx, server: s}
		if s.config.BeforeUnary == nil {
			return s.admitUnary(call, call, req, handler)
		}
		return s.before(call, req, info, func(ctx context.Context, req any) (any, error) { return s.admitUnary(ctx, call, req, handler) })
	}
}

// admitUnary runs the handler of a unary call whose method did not go through
// [Server.MarkStarted], if the call is admitted.
func (s *Server) admitUnary(ctx context.Context, call *served, req any, handler grpc.UnaryHandler) (reply any, err error) {
	identified, err := s.admit(ctx, call)
	if err != nil {
		return nil, err
	}
	failed := true // also after a panic or runtime.Goexit
	defer func() { s.end(call, identified, failed, "") }()
	reply, err = handler(ctx, req)
	failed = err != nil
	return reply, err
}

// before runs what is to run before a unary call's admission, and then admit, if
// the call's context was not lost.
func (s *Server) before(call *served, req any, info *grpc.UnaryServerInfo, admit grpc.UnaryHandler) (any, error) {
	return s.config.BeforeUnary(call, req, info, func(ctx context.Context, req any) (any, error) {
		if ctx == nil || ctx.Value(servedKey{}) != call {
			return nil, errBefore
		}
		return admit(ctx, req)
	})
}

// errBefore is of a call whose context was lost before its admission.
var errBefore = status.Error(codes.Internal, "the call was refused: an interceptor before admission, or the function of option Authenticate, "+
	"passed on a context that does not derive from the one that it was called with")

// StreamServerInterceptor admits streams, each once, at its start: see
// [Server.UnaryServerInterceptor].
func (s *Server) StreamServerInterceptor() grpc.StreamServerInterceptor {
	return s.serveStream
}

// serveStream runs a stream's handler, which may be an interceptor's, if the
// stream is admitted.
func (s *Server) serveStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	wrapped := &servedStream{ServerStream: stream, served: served{Context: stream.Context(), server: s}}
	marked := (*s.marked.Load())[info.FullMethod]
	switch {
	case s.exempt(info.FullMethod):
		s.introduce(wrapped.served.Context, info.FullMethod)
		if !marked {
			return handler(srv, stream)
		}
		return handler(srv, wrapped)
	case s.config.BeforeStream == nil:
		return s.admitStream(srv, wrapped, &wrapped.served, marked, handler)
	}
	return s.config.BeforeStream(srv, wrapped, info, func(srv any, stream grpc.ServerStream) error {
		if ctx := stream.Context(); ctx == nil || ctx.Value(servedKey{}) != &wrapped.served {
			return errBefore
		}
		return s.admitStream(srv, stream, &wrapped.served, marked, handler)
	})
}

// admitStream runs the handler of a stream that is not exempt.
func (s *Server) admitStream(srv any, stream grpc.ServerStream, call *served, marked bool, handler grpc.StreamHandler) error {
	identified, err := s.admit(stream.Context(), call)
	if err != nil {
		return err
	}
	failed := true // also after a panic or runtime.Goexit
	defer func() {
		switch {
		case neverBegan(err):
			s.end(call, identified, failed, atmostonce.OutcomeRefused)
		case !marked: // the server does not know whether its handler ran
			s.end(call, identified, failed, "")
		default:
			s.end(call, identified, failed, call.end())
		}
	}()
	err = handler(srv, stream)
	failed = err != nil
	return err
}

// end sets the trailers of a call that ends.
func (s *Server) end(call *served, identified, failed bool, outcome outcomeTrailer) {
	switch {
	case !identified:
	case failed:
		s.tell(call.Context, outcome)
	case call.hasReservedTrailer():
		// The program has set trailers in our name, which cannot be taken back.
		// With ours beside them the caller believes none: also if the reply,
		// which is yet to be sent, turns out to be too large.
		s.tell(call.Context, outcome)
	}
}

// exempt tells whether a path is of an exempt service.
func (s *Server) exempt(path string) bool {
	path = strings.TrimPrefix(path, "/")
	return s.config.Exempt(path[:max(strings.LastIndexByte(path, '/'), 0)])
}

// admit lets a call pass, or returns the error that refuses it. identified is
// whether it was marked. ctx is the call's context after
// what runs before admission.
func (s *Server) admit(ctx context.Context, served *served) (identified bool, err error) {
	values := incomingValues(served.Context, atmostonce.CallKey)
	if len(values) == 0 {
		if s.config.RequireIdentity {
			return false, s.refuse(ctx, atmostonce.IdentityRequired, "", "the call has no identity and the service demands one: call it through a onecall bus")
		}
		s.anonymous.Add(1)
		return false, nil
	}
	identity, err := soleIdentity(values)
	if err != nil {
		return false, s.refuse(ctx, atmostonce.MalformedIdentity, "", fmt.Sprintf("the identity of the call in %q is malformed: %v", atmostonce.CallKey, err))
	}
	if identity.Incarnation != s.config.Incarnation && s.config.Ledger != nil {
		return true, s.begin(ctx, identity)
	}
	if identity.Incarnation != s.config.Incarnation {
		return false, s.refuse(ctx, atmostonce.WrongInstance, "", fmt.Sprintf("the call is bound to the instance %s and reached %s: that instance is gone, or a proxy chose another one",
			identity.Incarnation, s.incarnation))
	}
	if verdict := s.sessions.admit(principalOf(ctx, s.sessions.seed), identity.Session, identity.Seq); verdict != admitted {
		return false, s.judge(ctx, identity, verdict)
	}
	if s.draining.Load() {
		// It is marked and goes no further: nobody ever runs it.
		return false, s.refuse(ctx, atmostonce.Draining, served.end(), "the instance is draining and takes no new calls: issue the call again at another one")
	}
	return true, s.begin(ctx, identity)
}

// begin asks the ledger, if there is one, whether the call is fresh, and gives
// the error that refuses it when it is not, or when nobody knows.
func (s *Server) begin(ctx context.Context, identity atmostonce.Identity) error {
	if s.config.Ledger == nil {
		return nil
	}
	fresh, err := s.config.Ledger.Begin(ctx, atmostonce.LedgerKey(identity))
	switch {
	case err != nil:
		// The reason may tell of the ledger's insides: it is not the caller's.
		return s.refuse(ctx, atmostonce.LedgerUnavailable, "", "the ledger that the instances share could not be asked whether the call began before, so it does not begin")
	case !fresh:
		return s.judge(ctx, identity, duplicate)
	default:
		return nil
	}
}

func soleIdentity(values []string) (atmostonce.Identity, error) {
	if len(values) != 1 {
		return atmostonce.Identity{}, fmt.Errorf("there are %d values, not one", len(values))
	}
	if strings.Contains(values[0], ",") {
		return atmostonce.Identity{}, errors.New("values are joined by a comma; there may be one alone")
	}
	return atmostonce.ParseIdentity(values[0])
}

// judge gives the error of a call that is not admitted.
func (s *Server) judge(ctx context.Context, identity atmostonce.Identity, verdict verdict) error {
	switch verdict {
	case principalFull:
		return s.refuse(ctx, atmostonce.SessionLimit, "", fmt.Sprintf("the caller has %d sessions, the most that it may (MaxSessionsPerPrincipal): keep one bus a process, "+
			"not one a call, or raise the limit",
			s.config.MaxSessionsPerPrincipal))
	case serverFull:
		return s.refuse(ctx, atmostonce.SessionLimit, "", fmt.Sprintf("the instance has %d sessions, the most that it may (MaxSessions): call another one, or raise the limit", s.config.MaxSessions))
	case forgotten:
		return s.refuse(ctx, atmostonce.SessionExpired, "", s.expired(identity))
	case outdated:
		return s.refuse(ctx, atmostonce.SessionExpired, atmostonce.OutcomeRefused, s.expired(identity))
	case ahead:
		return s.refuse(ctx, atmostonce.SessionAhead, "", s.ahead(identity))
	case late:
		return s.refuse(ctx, atmostonce.LateCall, "", "the call came too late: so many later calls of its caller came before it that the instance no longer knows whether it ran. "+
			"A queue or a proxy held it back, or the caller has thousands of calls waiting for a stream")
	case admitted, duplicate:
	}
	return s.refuse(ctx, atmostonce.DuplicateCall, "", "the call was seen before: a proxy or the network sent a copy of it, or it was held back for a minute in which its caller made no other call")
}

// expired says why a session is not begun.
func (s *Server) expired(identity atmostonce.Identity) string {
	created := identity.Session.Created()
	return fmt.Sprintf("the caller's session was created at %s by the caller's clock, %s behind this server's: either the session is too old, and the call is to be issued under a new one, "+
		"or the caller's clock is more than %v behind and is to be set",
		created.UTC().Format(time.RFC3339), s.sessions.now().Sub(created).Round(time.Second), horizon)
}

// ahead says why a session of the future is not begun.
func (s *Server) ahead(identity atmostonce.Identity) string {
	created := identity.Session.Created()
	return fmt.Sprintf("the caller's session was created at %s by the caller's clock, %s ahead of this server's, which is more than %v: the caller's clock or the server's is to be set",
		created.UTC().Format(time.RFC3339), created.Sub(s.sessions.now()).Round(time.Second), horizon)
}

// refuse counts a refusal, tells the caller who refuses, and gives the error.
func (s *Server) refuse(ctx context.Context, reason atmostonce.Reason, outcome outcomeTrailer, message string) error {
	s.refused[reason].Add(1)
	s.tell(ctx, outcome)
	return refuse(reason, message)
}

// tell sets the trailer of an error reply.
func (s *Server) tell(ctx context.Context, outcome outcomeTrailer) {
	trailer := metadata.MD{atmostonce.IncarnationKey: {s.incarnation}}
	if outcome != "" {
		trailer[atmostonce.OutcomeKey] = []string{string(outcome)}
	}
	// It fails when the stream is over, and then nobody is left to tell.
	_ = grpc.SetTrailer(ctx, trailer)
}
