package framework

import (
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// ServiceStats has the counters of a service since it started, and its current state.
type ServiceStats struct {
	// RPCs has the counters of the admitted calls of each RPC, by the RPC's bus name,
	// such as "auth.check_password".
	RPCs map[string]RPCStats
	// InFlight, Served and Failed are the sums over all RPCs.
	InFlight       int
	Served, Failed uint64
	// Refused is how many calls admission refused, by reason. It does not count calls
	// that interceptors of [BeforeAdmission] refused.
	Refused map[atmostonce.Reason]uint64
	// Shed is how many calls of each API were refused because of [MaxInFlight], by the
	// API's bus name. They are not in RPCs and in Refused.
	Shed map[string]uint64
	// WithoutIdentity is how many calls without an identity were admitted.
	WithoutIdentity uint64
	// Sessions is how many sessions of callers the service remembers now, one for each
	// bus. IdleSessions is how many of these made no call for a minute.
	Sessions, IdleSessions int
	// Principals is how many callers have these sessions: TLS identities, hosts, or
	// names that [WithPrincipal] set.
	Principals int
	// Connections is how many connections there are now. RefusedConnections is how many
	// were closed at once, because of [MaxConnections].
	Connections        int
	RefusedConnections uint64
	// Settled counts the answers to callers that asked what became of a call.
	Settled SettleStats
	// Kept is how many bytes the replies and errors take that are kept for callers that
	// did not receive them.
	Kept int64
	// Unrecorded is how many ends of calls could not be written to the ledger, so that
	// other instances do not know them.
	Unrecorded uint64
	// Registered reports whether all APIs are registered. RegistrationError is the
	// error of writing to the registry, nil if there is none.
	Registered        bool
	RegistrationError error
}

// SettleStats counts what a service answered to callers that asked what became of a
// call.
type SettleStats struct {
	// Refused: the call did not run and never will. Running: it has not ended.
	// Executed: it ended. Unknown: the service does not know, or the caller was not the
	// one that made the call.
	Refused, Running, Executed, Unknown uint64
}

// RPCStats has the counters of one RPC in a service.
type RPCStats struct {
	// InFlight is how many calls run now, with open streams.
	InFlight int
	// Served is how many calls have ended, and Failed how many of these with an error.
	// A unary call counts if its request was received, a stream if its handler started.
	Served, Failed uint64
}

// Stats returns the counters. It takes the locks of all sessions, one after the other.
// So call it to export the counters, not with each call.
func (s *Service) Stats() ServiceStats {
	read := s.running.Stats()
	stats := ServiceStats{
		RPCs:               make(map[string]RPCStats, len(read.RPCs)),
		Refused:            read.Admission.Refused,
		Shed:               read.Shed,
		WithoutIdentity:    read.Admission.WithoutIdentity,
		Sessions:           read.Admission.Sessions,
		IdleSessions:       read.Admission.Collapsed,
		Principals:         read.Admission.Principals,
		Settled:            SettleStats(read.Admission.Settled),
		Kept:               read.Admission.Kept,
		Unrecorded:         read.Admission.Unrecorded,
		Registered:         read.Registration.Registered,
		Connections:        read.Connections,
		RefusedConnections: read.RefusedConnections,
		RegistrationError:  read.Registration.Err,
	}
	for name, rpc := range read.RPCs {
		stats.RPCs[name] = RPCStats(rpc)
		stats.InFlight += rpc.InFlight
		stats.Served += rpc.Served
		stats.Failed += rpc.Failed
	}
	return stats
}
