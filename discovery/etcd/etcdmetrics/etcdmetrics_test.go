package etcdmetrics_test

import (
	"log/slog"
	"maps"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/discovery/etcd/etcdmetrics"
	"github.com/onecall-dev/onecall/internal/eventually"
)

// collect returns what a reader reads, by name.
func collect(t *testing.T, reader metric.Reader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				out[m.Name] = float64(data.DataPoints[0].Value)
			case metricdata.Gauge[float64]:
				out[m.Name] = data.DataPoints[0].Value
			case metricdata.Sum[int64]:
				out[m.Name] = float64(data.DataPoints[0].Value)
			default:
				t.Fatalf("%s is a %T", m.Name, data)
			}
		}
	}
	return out
}

func TestARegistryIsObserved(t *testing.T) {
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
	reader := metric.NewManualReader()
	observed, err := etcdmetrics.Observe(metric.NewMeterProvider(metric.WithReader(reader)).Meter("test"), registry)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		etcdmetrics.Registrations: 0, etcdmetrics.Registered: 0, etcdmetrics.LeaseLeft: 0,
		etcdmetrics.Writable: 1, etcdmetrics.Readable: 1, etcdmetrics.APIs: 0, etcdmetrics.Skipped: 0,
	}
	if got := collect(t, reader); !maps.Equal(got, want) {
		t.Errorf("at first %v, want %v", got, want)
	}

	registration, err := registry.Register(discoverytest.Instance("auth", "10.0.0.1:1")) // ends with the registry
	if err != nil {
		t.Fatal(err)
	}
	discoverytest.AwaitRegistered(t, registration)
	watched := discoverytest.Watch(t, registry, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")
	got := collect(t, reader)
	if left := got[etcdmetrics.LeaseLeft]; left <= 0 || left > 2 {
		t.Errorf("%v s of a lease of 2 are left", left)
	}
	want[etcdmetrics.Registrations], want[etcdmetrics.Registered], want[etcdmetrics.APIs] = 1, 1, 1
	want[etcdmetrics.LeaseLeft] = got[etcdmetrics.LeaseLeft]
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
	got = collect(t, reader)
	if got[etcdmetrics.Registered] != 0 || got[etcdmetrics.LeaseLeft] != 0 || got[etcdmetrics.Writable] != 0 || got[etcdmetrics.Readable] != 0 {
		t.Errorf("without etcd %v", got)
	}
	if err := observed.Unregister(); err != nil {
		t.Error(err)
	}
}
