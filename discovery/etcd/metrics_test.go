package etcd_test

import (
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/telemetry"
)

// measured returns the metrics of a registry, by name.
func measured(registry *etcd.Registry) map[string]float64 {
	values := make(map[string]float64)
	registry.Collect(func(metric telemetry.Metric) { values[metric.Name] = metric.Points[0].Value })
	return values
}

func TestARegistryIsMeasured(t *testing.T) {
	t.Parallel()
	server, err := embed.Start(t.Context(), embed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := etcd.Open(etcd.Config{Endpoints: server.Endpoints(), TTL: 2 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	registrations, registered, left, writable, readable := telemetry.RegistryRegistrations.Name, telemetry.RegistryRegistered.Name,
		telemetry.RegistryLeaseLeft.Name, telemetry.RegistryWritable.Name, telemetry.RegistryReadable.Name
	want := map[string]float64{
		registrations: 0, registered: 0, left: 0, writable: 1, readable: 1, telemetry.RegistryAPIs.Name: 0, telemetry.RegistrySkipped.Name: 0,
	}
	if got := measured(registry); !maps.Equal(got, want) {
		t.Errorf("at first %v, want %v", got, want)
	}

	registration, err := registry.Register(discoverytest.Instance("auth", "10.0.0.1:1")) // ends with the registry
	if err != nil {
		t.Fatal(err)
	}
	discoverytest.AwaitRegistered(t, registration)
	watched := discoverytest.Watch(t, registry, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")
	got := measured(registry)
	if got[left] <= 0 || got[left] > 2 {
		t.Errorf("%v s of a lease of 2 are left", got[left])
	}
	want[registrations], want[registered], want[telemetry.RegistryAPIs.Name], want[left] = 1, 1, 1, got[left]
	if !maps.Equal(got, want) {
		t.Errorf("registered %v, want %v", got, want)
	}

	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "a status that says that etcd has gone", func() bool {
		status := registration.Status()
		return !status.Registered && status.Err != nil
	})
	watched.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
	if got = measured(registry); got[registered] != 0 || got[left] != 0 || got[writable] != 0 || got[readable] != 0 {
		t.Errorf("without etcd %v", got)
	}
}
