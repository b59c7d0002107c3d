package etcd

import (
	"time"

	"github.com/onecall-dev/onecall/discovery"
)

// Stats is how a registry stands just now.
type Stats struct {
	// Registrations is how many there are, and Registered how many of them stand
	// in etcd, as far as is known here.
	Registrations, Registered int
	// LeaseLeft is how long they stay if etcd hears no more of this process; 0
	// when none stands there.
	LeaseLeft time.Duration
	// WriteError is what keeps this process from writing to etcd, nil when
	// nothing does.
	WriteError error
	// APIs is how many APIs are watched.
	APIs int
	// ReadError is what keeps this process from reading from etcd, nil when
	// nothing does.
	ReadError *discovery.UnreachableError
	// Skipped is how many values of instances could not be used since Open, such
	// as ones that are not JSON or hold an address that nobody can dial.
	Skipped uint64
}

// Stats gives how the registry stands just now.
func (r *Registry) Stats() Stats {
	stats := Stats{Skipped: r.watcher.skipped.Load()}
	r.registrar.mu.Lock()
	stats.Registrations = len(r.registrar.registrations)
	for registration := range r.registrar.registrations {
		if registration.up {
			stats.Registered++
		}
	}
	stats.LeaseLeft = max(0, time.Until(r.registrar.expires))
	stats.WriteError = r.registrar.fault
	r.registrar.mu.Unlock()
	if stats.LeaseLeft == 0 {
		stats.Registered = 0
	}
	r.watcher.mu.Lock()
	stats.APIs = len(r.watcher.watches)
	stats.ReadError = r.watcher.fault
	r.watcher.mu.Unlock()
	return stats
}
