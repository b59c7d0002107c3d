// Package etcdmetrics reports the state of a registry on etcd to an OpenTelemetry
// meter. Only programs that import it have OpenTelemetry in their build.
package etcdmetrics

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"

	"github.com/onecall-dev/onecall/discovery/etcd"
)

// The names of the instruments.
const (
	// Registrations counts the registrations that this process has made and not closed.
	Registrations = "onecall.registry.registrations"
	// Registered counts those of them that are in etcd.
	Registered = "onecall.registry.registered"
	// LeaseLeft is how long they stay in etcd without another keep-alive, in seconds.
	LeaseLeft = "onecall.registry.lease.left"
	// Writable and Readable are 1 while etcd can be written to, and read from, as far as
	// this process knows, else 0.
	Writable = "onecall.registry.writable"
	Readable = "onecall.registry.readable"
	// APIs counts the APIs that are watched.
	APIs = "onecall.registry.apis"
	// Skipped counts values of instances that could not be used.
	Skipped = "onecall.registry.skipped"
)

// Observe registers a callback that reads the state of a registry whenever meter
// collects. Unregister the result to end that. The errors are the meter's.
func Observe(meter metric.Meter, registry *etcd.Registry) (metric.Registration, error) {
	var errs []error
	gauge := func(name, description string) metric.Int64ObservableGauge {
		made, err := meter.Int64ObservableGauge(name, metric.WithDescription(description))
		errs = append(errs, err)
		return made
	}
	registrations := gauge(Registrations, "Registrations that this process has made and not closed.")
	registered := gauge(Registered, "Registrations that are in etcd.")
	writable := gauge(Writable, "Whether etcd can be written to.")
	readable := gauge(Readable, "Whether etcd can be read from.")
	apis := gauge(APIs, "APIs that are watched.")
	left, err := meter.Float64ObservableGauge(LeaseLeft, metric.WithUnit("s"), metric.WithDescription("How long registrations stay in etcd without another keep-alive."))
	errs = append(errs, err)
	skipped, err := meter.Int64ObservableCounter(Skipped, metric.WithDescription("Values of instances that could not be used."))
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return meter.RegisterCallback(func(_ context.Context, observer metric.Observer) error {
		stats := registry.Stats()
		observer.ObserveInt64(registrations, int64(stats.Registrations))
		observer.ObserveInt64(registered, int64(stats.Registered))
		observer.ObserveInt64(writable, one(stats.WriteError == nil))
		observer.ObserveInt64(readable, one(stats.ReadError == nil))
		observer.ObserveInt64(apis, int64(stats.APIs))
		observer.ObserveFloat64(left, stats.LeaseLeft.Seconds())
		observer.ObserveInt64(skipped, int64(min(stats.Skipped, 1<<62)))
		return nil
	}, registrations, registered, writable, readable, apis, left, skipped)
}

func one(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
