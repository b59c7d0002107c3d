package atmostonce

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// Domain is the domain of the google.rpc.ErrorInfo of every refusal.
const Domain = "onecall.dev"

// Reason is why a call was refused before its handler started. It is the reason of a
// google.rpc.ErrorInfo.
type Reason string

// The reasons.
const (
	// WrongInstance: the call is bound to another incarnation.
	WrongInstance Reason = "WRONG_INSTANCE"
	// DuplicateCall: its identity was marked before, or may have been: the session
	// was idle since, so the server no longer knows.
	DuplicateCall Reason = "DUPLICATE_CALL"
	// LateCall: its number is so far below others of its session that the server no
	// longer knows whether it was marked before. It will never run.
	LateCall Reason = "LATE_CALL"
	// SessionLimit: its principal, or the server, has as many sessions as it may.
	SessionLimit Reason = "SESSION_LIMIT"
	// SessionExpired: its session is too old to begin, or may have been forgotten.
	// A server that never knew the session adds the outcome "refused". A server
	// that may have known it does not, because a copy of a call that ran is refused
	// in the same way. But if the caller sent the call less than [SessionKept] ago,
	// it did not run and never will.
	SessionExpired Reason = "SESSION_EXPIRED"
	// SessionAhead: its session was created more than 36 h ahead of the server's
	// clock, so one of the two clocks is wrong. The call may run later, if a copy
	// arrives when they are right.
	SessionAhead Reason = "SESSION_AHEAD"
	// MalformedIdentity: its identity cannot be parsed.
	MalformedIdentity Reason = "MALFORMED_IDENTITY"
	// IdentityRequired: it has no identity, and the service requires one.
	IdentityRequired Reason = "IDENTITY_REQUIRED"
	// Draining: the instance takes no new calls.
	Draining Reason = "DRAINING"
	// LedgerUnavailable: it is not known whether the call began before, because the
	// ledger that the instances share is unavailable.
	LedgerUnavailable Reason = "LEDGER_UNAVAILABLE"
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{
		WrongInstance, DuplicateCall, LateCall, SessionLimit, SessionExpired,
		SessionAhead, MalformedIdentity, IdentityRequired, Draining, LedgerUnavailable,
	}
}

// SessionKept is the least time for which a server remembers a session after it
// marked a call of it. The server counts it in seconds, so a caller that relies on it
// must leave a margin.
const SessionKept = 24 * time.Hour

// ReasonOf returns the reason of a refusal, "" if err is not one.
func ReasonOf(err error) Reason {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return Reason(info.GetReason())
		}
	}
	return ""
}
