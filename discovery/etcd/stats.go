package etcd

import (
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/telemetry"
)

// Stats is the state of a registry at one moment.
type Stats struct {
	// Registrations is how many registrations there are, and Registered how many of
	// them are in etcd, as far as this process knows.
	Registrations, Registered int
	// LeaseLeft is how long they stay in etcd if this process does not renew its lease
	// any more; 0 without a lease.
	LeaseLeft time.Duration
	// WriteError is why this process cannot write to etcd, nil if it can.
	WriteError error
	// APIs is how many APIs are watched.
	APIs int
	// ReadError is why this process cannot read from etcd, nil if it can.
	ReadError *discovery.UnreachableError
	// Skipped counts the values of instances since Open that could not be used, such
	// as ones that are not JSON or have an address that cannot be dialed.
	Skipped uint64
}

// Stats returns the present state of the registry.
func (r *Registry) Stats() Stats {
	stats := Stats{Skipped: r.watcher.skipped.Load()}
	r.registrar.mu.Lock()
	stats.Registrations = len(r.registrar.registrations)
	for registration := range r.registrar.registrations {
		if registration.registered {
			stats.Registered++
		}
	}
	stats.LeaseLeft = max(0, time.Until(r.registrar.state.expires))
	stats.WriteError = r.registrar.state.err
	r.registrar.mu.Unlock()
	if stats.LeaseLeft == 0 {
		stats.Registered = 0
	}
	r.watcher.mu.Lock()
	stats.APIs = len(r.watcher.watches)
	stats.ReadError = r.watcher.err
	r.watcher.mu.Unlock()
	return stats
}

// Collect implements [telemetry.Source].
func (r *Registry) Collect(add func(telemetry.Metric)) {
	stats := r.Stats()
	add(telemetry.RegistryRegistrations.Value(float64(stats.Registrations)))
	add(telemetry.RegistryRegistered.Value(float64(stats.Registered)))
	add(telemetry.RegistryLeaseLeft.Value(stats.LeaseLeft.Seconds()))
	add(telemetry.RegistryWritable.Value(telemetry.Flag(stats.WriteError == nil)))
	add(telemetry.RegistryReadable.Value(telemetry.Flag(stats.ReadError == nil)))
	add(telemetry.RegistryAPIs.Value(float64(stats.APIs)))
	add(telemetry.RegistrySkipped.Value(float64(stats.Skipped)))
}
