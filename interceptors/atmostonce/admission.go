package atmostonce

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// UnaryServerInterceptor admits unary calls.
//
// It runs outside of all that may refuse a call for its own reasons
// (authorization, limits), so that their refusals are told as what they are; and
// inside of recovery, so that a panic's error is.
//
// A refused call's error is FAILED_PRECONDITION, or INVALID_ARGUMENT for a
// malformed identity, with a google.rpc.ErrorInfo: see [ReasonOf]. Every error
// reply has the trailer [IncarnationKey], and that of an admitted call
// [OutcomeKey] too, if its service's description went through
// [Server.MarkStarted]; without that nobody knows whether the handler ran. An
// error of sending the reply, such as one over the limit of size, is grpc-go's
// own and has neither.
func (s *Server) UnaryServerInterceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
		if s.exempt(info.FullMethod) {
			s.introduce(ctx, info.FullMethod)
			return handler(ctx, req)
		}
		served, _ := ctx.Value(servedKey{}).(*served)
		identified, err := s.admit(ctx, served)
		if err != nil {
			return nil, err
		}
		if !identified {
			return handler(ctx, req)
		}
		returned := false
		defer func() { // without recover: the panic is somebody else's
			if err != nil || !returned {
				s.tell(ctx, served.end())
			}
		}()
		reply, err = handler(ctx, req)
		returned = true
		return reply, err
	}
}

// StreamServerInterceptor admits streams, each once, at its start: see
// [Server.UnaryServerInterceptor].
func (s *Server) StreamServerInterceptor() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		ctx := stream.Context()
		var noted *served
		if (*s.marked.Load())[info.FullMethod] {
			wrapped := &servedStream{ServerStream: stream, served: served{Context: ctx, drained: s.drained}}
			stream, noted = wrapped, &wrapped.served
		}
		if s.exempt(info.FullMethod) {
			s.introduce(ctx, info.FullMethod)
			return handler(srv, stream)
		}
		identified, err := s.admit(ctx, noted)
		if err != nil {
			return err
		}
		if !identified {
			return handler(srv, stream)
		}
		returned := false
		defer func() {
			switch {
			case neverBegan(err):
				s.tell(ctx, OutcomeRefused)
			case err != nil || !returned:
				s.tell(ctx, noted.end())
			}
		}()
		err = handler(srv, stream)
		returned = true
		return err
	}
}

// exempt tells whether a path is of an exempt service.
func (s *Server) exempt(path string) bool {
	path = strings.TrimPrefix(path, "/")
	return s.config.Exempt(path[:max(strings.LastIndexByte(path, '/'), 0)])
}

// admit lets a call pass, or gives the error that refuses it. identified is
// whether it was marked. served may be nil.
func (s *Server) admit(ctx context.Context, served *served) (identified bool, err error) {
	values := metadata.ValueFromIncomingContext(ctx, CallKey)
	if len(values) == 0 {
		if s.config.RequireIdentity {
			return false, s.refuse(ctx, IdentityRequired, "", "the call has no identity and the service demands one: call it through a onecall bus")
		}
		s.anonymous.Add(1)
		return false, nil
	}
	identity, err := soleIdentity(values)
	if err != nil {
		return false, s.refuse(ctx, MalformedIdentity, "", fmt.Sprintf("the identity of the call in %q is malformed: %v", CallKey, err))
	}
	if identity.Incarnation != s.config.Incarnation && s.config.Ledger != nil {
		return true, s.begin(ctx, identity)
	}
	if identity.Incarnation != s.config.Incarnation {
		return false, s.refuse(ctx, WrongInstance, "", fmt.Sprintf("the call is bound to the instance %s and reached %s: that instance is gone, or a proxy chose another one",
			identity.Incarnation, s.incarnation))
	}
	if verdict := s.sessions.admit(principalOf(ctx, s.sessions.seed), identity.Session, identity.Seq); verdict != admitted {
		return false, s.judge(ctx, identity, verdict)
	}
	if s.draining.Load() {
		// It is marked and goes no further: nobody ever runs it.
		return false, s.refuse(ctx, Draining, served.end().orRefused(), "the instance is draining and takes no new calls: issue the call again at another one")
	}
	return true, s.begin(ctx, identity)
}

// begin asks the ledger, if there is one, whether the call is fresh, and gives
// the error that refuses it when it is not, or when nobody knows.
func (s *Server) begin(ctx context.Context, identity Identity) error {
	if s.config.Ledger == nil {
		return nil
	}
	fresh, err := s.config.Ledger.Begin(ctx, LedgerKey(identity))
	switch {
	case err != nil:
		// The reason may tell of the ledger's insides: it is not the caller's.
		return s.refuse(ctx, LedgerUnavailable, "", "the ledger that the instances share could not be asked whether the call began before, so it does not begin")
	case !fresh:
		return s.judge(ctx, identity, duplicate)
	default:
		return nil
	}
}

func soleIdentity(values []string) (Identity, error) {
	if len(values) != 1 {
		return Identity{}, fmt.Errorf("there are %d values, not one", len(values))
	}
	if strings.Contains(values[0], ",") {
		return Identity{}, errors.New("values are joined by a comma; there may be one alone")
	}
	return ParseIdentity(values[0])
}

// judge gives the error of a call that is not admitted.
func (s *Server) judge(ctx context.Context, identity Identity, verdict verdict) error {
	switch verdict {
	case principalFull:
		return s.refuse(ctx, SessionLimit, "", fmt.Sprintf("the caller has %d sessions, the most that it may (MaxSessionsPerPrincipal): keep one bus a process instead of one a call, or raise the limit",
			s.config.MaxSessionsPerPrincipal))
	case serverFull:
		return s.refuse(ctx, SessionLimit, "", fmt.Sprintf("the instance has %d sessions, the most that it may (MaxSessions): call another one, or raise the limit", s.config.MaxSessions))
	case forgotten:
		return s.refuse(ctx, SessionExpired, "", s.expired(identity))
	case outdated:
		return s.refuse(ctx, SessionExpired, OutcomeRefused, s.expired(identity))
	case admitted, duplicate:
	}
	return s.refuse(ctx, DuplicateCall, "", "the call was seen before, or is so late that it may have been: a proxy or the network sent a copy of it")
}

// expired says why a session is not begun.
func (s *Server) expired(identity Identity) string {
	created := identity.Session.Created()
	return fmt.Sprintf("the caller's session was created at %s by the caller's clock, %s behind this server's: either the session is too old, and the call is to be issued under a new one, "+
		"or the caller's clock is more than %v behind and is to be set",
		created.UTC().Format(time.RFC3339), s.sessions.now().Sub(created).Round(time.Second), horizon)
}

// refuse counts a refusal, tells the caller who refuses, and gives the error.
func (s *Server) refuse(ctx context.Context, reason Reason, outcome outcomeTrailer, message string) error {
	s.refused[reason].Add(1)
	s.tell(ctx, outcome)
	return refuse(reason, message)
}

// tell sets the trailer of an error reply.
func (s *Server) tell(ctx context.Context, outcome outcomeTrailer) {
	trailer := metadata.MD{IncarnationKey: {s.incarnation}}
	if outcome != "" {
		trailer[OutcomeKey] = []string{string(outcome)}
	}
	// It fails when the stream is over, and then nobody is left to tell.
	_ = grpc.SetTrailer(ctx, trailer)
}
