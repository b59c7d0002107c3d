package client

import (
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/telemetry"
)

// Collect implements [telemetry.Source].
func (b *Bus) Collect(add func(telemetry.Metric)) {
	b.meters.Collect(add)
	settlements := telemetry.Metric{Definition: telemetry.ClientSettlements}
	for i, what := range learned {
		settlements.Points = append(settlements.Points, settlements.Point(float64(b.settled[i].Load()), what))
	}
	add(settlements)
	add(telemetry.ClientRetryTokens.Value(float64(b.throttle.tokens.Load())))
	b.options.identity.Collect(add)
	if b.options.callLog != nil {
		add(telemetry.LogDropped.Value(float64(b.options.callLog.Dropped())))
	}
	add(telemetry.ClientSchemasIncompatible.Value(float64(b.incompatible.Load())))
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, of := range b.apis {
		if len(of.clients) > 0 { // else only its schema was read
			of.collect(name, add)
		}
	}
}

// collect adds the metrics of an API. Bus.mu is held.
func (a *api) collect(name string, add func(telemetry.Metric)) {
	unavailable, outages := 0.0, uint64(0)
	for _, client := range a.clients {
		unavailable, outages = max(unavailable, telemetry.Flag(client.outage.now() != nil)), outages+client.outage.begun()
	}
	add(telemetry.ClientRetries.Value(float64(a.retries.Load()), name))
	add(telemetry.ClientOutages.Value(float64(outages), name))
	add(telemetry.ClientUnavailable.Value(unavailable, name))
	latest := a.watch.latest.Load()
	if latest == nil {
		return // the registry has not answered yet
	}
	draining := 0
	for _, instance := range latest.List {
		if instance.State == discovery.Draining {
			draining++
		}
	}
	add(telemetry.ClientInstances.Value(float64(len(latest.List)-draining), name, "serving"))
	add(telemetry.ClientInstances.Value(float64(draining), name, "draining"))
	age := 0.0
	if latest.Rest.Unreachable != nil {
		age = time.Since(latest.Rest.Unreachable.Since).Seconds()
	}
	add(telemetry.ClientInstancesAge.Value(age, name))
}
