package framework

// BusStats has the counters of a bus since it was made, and its current state.
type BusStats struct {
	// APIs has the counters of each API that the bus calls, by the bus name, such as
	// "auth".
	APIs map[string]APIStats
	// IncompatibleSchemas is how many schemas of instances are incompatible with the
	// program's own. Each schema counts once. The log has the differences.
	IncompatibleSchemas uint64
	// RetryTokens is how many tokens the retry throttle has: from 0 to 1,000. A retry
	// of a call that may have run takes 10, and a reply to such an RPC adds 1.
	RetryTokens int
	// Settled is how many calls whose outcome was not known were settled: an instance
	// said that they ran, or that they never will. Unsettled is how many times an
	// instance was asked, or could not be asked, and the outcome stayed unknown.
	Settled, Unsettled uint64
}

// APIStats has the counters of one API in a bus.
type APIStats struct {
	// Calls is how many calls have ended, and Failed how many of these with an error.
	// A stream ends when the program receives its last message or its error. Calls
	// that never had an instance count too, except calls of an API that is neither
	// linked into the program nor known to the registry.
	Calls, Failed uint64
	// Retries is how many attempts were retries.
	Retries uint64
	// Unavailable is the reason why a call would find no instance now, such as a
	// *discovery.NoInstanceError. It is nil if there is an instance, or the registry
	// has not answered yet. If the program calls several services of the API, it is
	// the reason of one of them.
	Unavailable error
}

// Stats returns the counters of the bus. After Close, APIs is empty.
func (b *Bus) Stats() BusStats {
	read := b.calls.Stats()
	stats := BusStats{
		APIs:                make(map[string]APIStats, len(read.APIs)),
		IncompatibleSchemas: read.IncompatibleSchemas,
		RetryTokens:         read.RetryTokens,
		Settled:             read.Settled,
		Unsettled:           read.Unsettled,
	}
	for name, api := range read.APIs {
		stats.APIs[name] = APIStats(api)
	}
	return stats
}
