package framework

import (
	"maps"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// ServiceStats is what a service has counted since it started, and how it is now.
type ServiceStats struct {
	// RPCs has the calls of each RPC that admission let pass, by the RPC's bus name,
	// such as "auth.check_password".
	RPCs map[string]RPCStats
	// InFlight, Served and Failed are the sums over all RPCs.
	InFlight       int
	Served, Failed uint64
	// Refused is how many calls admission refused, for every reason. It has nothing of
	// calls that interceptors of [BeforeAdmission] refused.
	Refused map[atmostonce.Reason]uint64
	// WithoutIdentity is how many calls without an identity were let pass.
	WithoutIdentity uint64
	// Sessions is how many sessions of callers the service remembers now, one for each
	// bus; IdleSessions is how many of these made no call for a minute.
	Sessions, IdleSessions int
	// Principals is how many callers have these sessions: TLS identities, hosts, or
	// names that [WithPrincipal] set.
	Principals int
	// Registered reports whether all APIs are registered, and RegistrationError is what
	// keeps the registry from being written, nil if nothing does.
	Registered        bool
	RegistrationError error
}

// RPCStats is what a service has counted of one RPC.
type RPCStats struct {
	// InFlight is how many calls run now, open streams included.
	InFlight int
	// Served is how many calls have ended, and Failed how many of these with an
	// error. A unary call counts if its request was received, a stream if its handler
	// started.
	Served, Failed uint64
}

// Stats returns the counters. It takes the locks of all sessions in turn: call it
// to export the counters, not with each call.
func (s *Service) Stats() ServiceStats {
	guard, status := s.guard.Stats(), s.registration.Status()
	stats := ServiceStats{
		RPCs:              s.underWay.stats(),
		Refused:           guard.Refused,
		WithoutIdentity:   guard.WithoutIdentity,
		Sessions:          guard.Sessions,
		IdleSessions:      guard.Collapsed,
		Principals:        guard.Principals,
		Registered:        status.Registered,
		RegistrationError: status.Err,
	}
	for rpc := range maps.Values(stats.RPCs) {
		stats.InFlight += rpc.InFlight
		stats.Served += rpc.Served
		stats.Failed += rpc.Failed
	}
	return stats
}

// stats returns the counters of all RPCs.
func (u *underWay) stats() map[string]RPCStats {
	all := make(map[string]RPCStats, len(u.unary)+len(u.streaming))
	for _, calls := range []map[string]*rpcCalls{u.unary, u.streaming} {
		for rpc := range maps.Values(calls) {
			ended, failed := rpc.ended.Load(), rpc.failed.Load()
			all[rpc.name] = RPCStats{InFlight: int(rpc.running()), Served: ended, Failed: min(failed, ended)}
		}
	}
	return all
}
