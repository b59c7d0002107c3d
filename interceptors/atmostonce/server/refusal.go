package server

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// outcomeTrailer is a value of [atmostonce.OutcomeKey]; "" is none.
type outcomeTrailer string

// refuseResult returns the error of a call that the sessions did not admit.
func (s *Server) refuseResult(ctx context.Context, identity atmostonce.Identity, result result) error {
	switch result {
	case principalFull:
		return s.refuse(ctx, atmostonce.SessionLimit, "", fmt.Sprintf("the caller has %d sessions, which is the limit (MaxSessionsPerPrincipal): "+
			"keep one bus per process, not one per call, or raise the limit", s.config.MaxSessionsPerPrincipal))
	case serverFull:
		return s.refuse(ctx, atmostonce.SessionLimit, "", fmt.Sprintf("the instance has %d sessions, which is the limit (MaxSessions): "+
			"call another instance, or raise the limit", s.config.MaxSessions))
	case forgotten:
		return s.refuse(ctx, atmostonce.SessionExpired, "", s.expired(identity))
	case outdated:
		return s.refuse(ctx, atmostonce.SessionExpired, atmostonce.OutcomeRefused, s.expired(identity))
	case ahead:
		return s.refuse(ctx, atmostonce.SessionAhead, "", s.ahead(identity))
	case late:
		return s.refuse(ctx, atmostonce.LateCall, "", "the call came too late: so many later calls of its caller came before it that the instance no longer knows whether it ran. "+
			"A queue or a proxy delayed it, or the caller has thousands of calls that wait for a stream")
	case admitted, duplicate:
	}
	return s.refuse(ctx, atmostonce.DuplicateCall, "", "the instance has seen the call before: a proxy or the network sent a copy of it. "+
		"Or the call was delayed for a minute in which its caller made no other call")
}

// expired returns the error text of a call whose session is too old.
func (s *Server) expired(identity atmostonce.Identity) string {
	created := identity.Session.Created()
	return fmt.Sprintf("the caller's session was created at %s by the caller's clock, %s behind this server's: if the clocks are right, retry the call in a new session; "+
		"if the caller's clock is more than %v behind, set it",
		created.UTC().Format(time.RFC3339), s.sessions.now().Sub(created).Round(time.Second), horizon)
}

// ahead returns the error text of a call whose session is of the future.
func (s *Server) ahead(identity atmostonce.Identity) string {
	created := identity.Session.Created()
	return fmt.Sprintf("the caller's session was created at %s by the caller's clock, %s ahead of this server's, which is more than %v: set the clock of the caller or of the server",
		created.UTC().Format(time.RFC3339), created.Sub(s.sessions.now()).Round(time.Second), horizon)
}

// refuse counts a refusal, sets its trailer and returns its error.
func (s *Server) refuse(ctx context.Context, reason atmostonce.Reason, outcome outcomeTrailer, message string) error {
	s.refused[reason].Add(1)
	s.setTrailer(ctx, outcome)
	return refusal(reason, message)
}

// setTrailer sets the trailer of an error reply.
func (s *Server) setTrailer(ctx context.Context, outcome outcomeTrailer) {
	trailer := metadata.MD{atmostonce.IncarnationKey: {s.incarnation}}
	if outcome != "" {
		trailer[atmostonce.OutcomeKey] = []string{string(outcome)}
	}
	// It fails only when the stream has ended, and then there is no reply.
	_ = grpc.SetTrailer(ctx, trailer)
}

// refusal returns the error of a refusal.
func refusal(reason atmostonce.Reason, message string) error {
	st := status.New(codeOf(reason), message)
	detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: string(reason), Domain: atmostonce.Domain})
	if err != nil { // WithDetails fails only for a detail that cannot be encoded
		return st.Err()
	}
	return detailed.Err()
}

// codeOf returns the gRPC code of a refusal. It is one that proxies do not retry. A
// malformed identity is the caller's error; the rest depends on the server's state.
func codeOf(reason atmostonce.Reason) codes.Code {
	if reason == atmostonce.MalformedIdentity {
		return codes.InvalidArgument
	}
	return codes.FailedPrecondition
}
