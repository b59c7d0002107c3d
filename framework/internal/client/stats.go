package client

// Stats are the counters of a bus: see framework.BusStats.
type Stats struct {
	APIs                map[string]APIStats
	IncompatibleSchemas uint64
	RetryTokens         int
	Settled, Unsettled  uint64
}

// APIStats are the counters of an API: see framework.APIStats.
type APIStats struct {
	Calls, Failed, Retries uint64
	Unavailable            error
}

// Stats returns the counters of the bus. After Close, APIs is empty.
func (b *Bus) Stats() Stats {
	stats := Stats{
		APIs: make(map[string]APIStats), IncompatibleSchemas: b.incompatible.Load(), RetryTokens: int(b.throttle.tokens.Load()),
	}
	for i := range b.settled {
		if i < stillUnknown {
			stats.Settled += b.settled[i].Load()
		} else {
			stats.Unsettled += b.settled[i].Load()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, of := range b.apis {
		if len(of.clients) == 0 {
			continue // only its schema was read
		}
		counted := APIStats{Calls: of.calls.Load(), Retries: of.retries.Load()}
		counted.Failed = min(of.failed.Load(), counted.Calls)
		for _, client := range of.clients {
			if cause := client.outage.now(); cause != nil {
				counted.Unavailable = cause
			}
		}
		stats.APIs[name] = counted
	}
	return stats
}
