package server

import (
	"iter"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
)

// Stats are the counters of a service: see framework.ServiceStats.
type Stats struct {
	RPCs         map[string]RPCStats
	Admission    server.Stats
	Registration discovery.Status
	// Connections are open, and RefusedConnections were closed at once.
	Connections        int
	RefusedConnections uint64
	// Shed are the calls above the limit of their API, by its name.
	Shed map[string]uint64
}

// RPCStats are the counters of an RPC: see framework.RPCStats.
type RPCStats struct {
	InFlight       int
	Served, Failed uint64
}

// Stats returns the counters.
func (s *Service) Stats() Stats {
	return Stats{
		RPCs: s.underWay.stats(), Admission: s.guard.Stats(), Registration: s.registration.Status(),
		Connections: s.connections.count(), RefusedConnections: s.connections.refused.Load(),
		Shed: s.underWay.shed(),
	}
}

// shed returns how many calls were refused because of the limits of their APIs.
func (u *underWay) shed() map[string]uint64 {
	all := make(map[string]uint64, len(u.limits))
	for name, limit := range u.limits {
		all[name] = limit.shed.Load()
	}
	return all
}

// stats returns the counters of all RPCs.
func (u *underWay) stats() map[string]RPCStats {
	all := make(map[string]RPCStats, len(u.unary)+len(u.streaming))
	for _, rpc := range u.paths() {
		ended, failed := rpc.ended.Load(), rpc.failed.Load()
		all[rpc.name] = RPCStats{InFlight: int(rpc.running()), Served: ended, Failed: min(failed, ended)}
	}
	return all
}

// paths returns the counters of all RPCs, by gRPC's path.
func (u *underWay) paths() iter.Seq2[string, *rpcCalls] {
	return func(yield func(string, *rpcCalls) bool) {
		for _, calls := range []map[string]*rpcCalls{u.unary, u.streaming} {
			for path, rpc := range calls {
				if !yield(path, rpc) {
					return
				}
			}
		}
	}
}
