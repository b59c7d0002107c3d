package atmostonce

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// Domain is the domain of the google.rpc.ErrorInfo of every refusal.
const Domain = "onecall.dev"

// Reason is why a call was refused before its handler, the reason of a
// google.rpc.ErrorInfo.
type Reason string

// The reasons.
const (
	// WrongInstance: the call is bound to another incarnation.
	WrongInstance Reason = "WRONG_INSTANCE"
	// DuplicateCall: its identity was marked before, or its session was idle in
	// the meantime so that the server no longer knows.
	DuplicateCall Reason = "DUPLICATE_CALL"
	// LateCall: its number lies so far below its session's others that the
	// server no longer knows whether it was marked before. It never runs any
	// more.
	LateCall Reason = "LATE_CALL"
	// SessionLimit: its principal, or the server, has as many sessions as it may.
	SessionLimit Reason = "SESSION_LIMIT"
	// SessionExpired: its session is too old to begin, or may have been
	// forgotten. A server that never knew it adds the outcome "refused". One
	// that may have, does not: a copy of a call that ran is refused so too. But
	// a caller that sent its call less than [SessionKept] ago then knows that
	// it did not run and never will.
	SessionExpired Reason = "SESSION_EXPIRED"
	// SessionAhead: its session was created more than 36 h ahead of the
	// server's clock: one of the two clocks is wrong. The call may run later, if
	// a copy of it comes when they are right.
	SessionAhead Reason = "SESSION_AHEAD"
	// MalformedIdentity: its identity is not of the wire's form.
	MalformedIdentity Reason = "MALFORMED_IDENTITY"
	// IdentityRequired: it has no identity and the service demands one.
	IdentityRequired Reason = "IDENTITY_REQUIRED"
	// Draining: the instance takes no new calls.
	Draining Reason = "DRAINING"
	// LedgerUnavailable: the ledger that instances share could not say whether
	// the call began before.
	LedgerUnavailable Reason = "LEDGER_UNAVAILABLE"
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{
		WrongInstance, DuplicateCall, LateCall, SessionLimit, SessionExpired,
		SessionAhead, MalformedIdentity, IdentityRequired, Draining, LedgerUnavailable,
	}
}

// SessionKept is the least time for which a server remembers a session after a
// call of it was marked. It is counted by the server in seconds, so a caller
// that reckons with it leaves a margin.
const SessionKept = 24 * time.Hour

// ReasonOf gives the reason of a refusal, "" when err is none.
func ReasonOf(err error) Reason {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return Reason(info.GetReason())
		}
	}
	return ""
}
