package telemetry_test

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/onecall-dev/onecall/telemetry"
)

// source is a source whose metrics a test sets.
type source struct{ metrics []telemetry.Metric }

func (s *source) Collect(add func(telemetry.Metric)) {
	for _, metric := range s.metrics {
		add(metric)
	}
}

// text returns metrics in Prometheus' text format, without comments.
func text(t *testing.T, metrics *telemetry.Metrics) string {
	t.Helper()
	var all strings.Builder
	if err := telemetry.WriteText(&all, metrics.Collect()); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(all.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// durations returns a point of a histogram with one value in each of some buckets.
func durations(sum float64, indexes ...int) telemetry.Point {
	point := telemetry.Point{Sum: sum, Buckets: make([]uint64, len(telemetry.Bounds())+1)}
	for _, index := range indexes {
		point.Buckets[index]++
	}
	return point
}

func TestSourcesAreMergedByTheirAttributes(t *testing.T) {
	t.Parallel()
	metrics := telemetry.New()
	a := &source{[]telemetry.Metric{
		telemetry.ClientRetries.Value(2, "auth"), telemetry.ClientRetryTokens.Value(10), telemetry.ClientUnavailable.Value(0, "auth"),
	}}
	b := &source{[]telemetry.Metric{
		telemetry.ClientRetries.Value(3, "auth"), telemetry.ClientRetries.Value(5, "mail"), telemetry.ClientRetryTokens.Value(20),
		telemetry.ClientUnavailable.Value(1, "auth"),
	}}
	metrics.Add(a)
	removeB := metrics.Add(b)
	want := `onecall_client_retries_total{onecall_api="auth"} 5
onecall_client_retries_total{onecall_api="mail"} 5
onecall_client_retry_tokens 30
onecall_client_unavailable{onecall_api="auth"} 1
`
	if got := text(t, metrics); got != want {
		t.Errorf("together\n%s\nwant\n%s", got, want)
	}
	removeB()
	removeB() // does nothing
	want = `onecall_client_retries_total{onecall_api="auth"} 5
onecall_client_retries_total{onecall_api="mail"} 5
onecall_client_retry_tokens 10
onecall_client_unavailable{onecall_api="auth"} 0
`
	if got := text(t, metrics); got != want {
		t.Errorf("counters fell, or others stayed:\n%s\nwant\n%s", got, want)
	}
}

func TestASourceThatWasAddedTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	metrics := telemetry.New()
	registry := &source{[]telemetry.Metric{telemetry.RegistryAPIs.Value(3)}}
	remove, removeToo := metrics.Add(registry), metrics.Add(registry)
	const want = "onecall_registry_apis 3\n"
	if got := text(t, metrics); got != want {
		t.Errorf("added twice: %q", got)
	}
	remove()
	if got := text(t, metrics); got != want {
		t.Errorf("removed once: %q", got)
	}
	removeToo()
	if got := text(t, metrics); got != "" {
		t.Errorf("removed twice: %q", got)
	}
}

func TestHistogramsAreMergedAndWrittenInBuckets(t *testing.T) {
	t.Parallel()
	metrics := telemetry.New()
	first := durations(0.5, 1, 5)
	metric := telemetry.Metric{Definition: telemetry.ServerCallDuration, Points: []telemetry.Point{first}}
	metrics.Add(&source{[]telemetry.Metric{metric}})
	removed := metrics.Add(&source{[]telemetry.Metric{{Definition: telemetry.ServerCallDuration, Points: []telemetry.Point{durations(200, 41)}}}})
	removed()
	got := text(t, metrics)
	for _, line := range []string{
		`rpc_server_call_duration_seconds_bucket{le="0"} 0`, `rpc_server_call_duration_seconds_bucket{le="1e-05"} 1`,
		`rpc_server_call_duration_seconds_bucket{le="0.0006"} 2`, `rpc_server_call_duration_seconds_bucket{le="100"} 2`,
		`rpc_server_call_duration_seconds_bucket{le="+Inf"} 3`, `rpc_server_call_duration_seconds_sum 200.5`, `rpc_server_call_duration_seconds_count 3`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no line %s in\n%s", line, got)
		}
	}
	if first.Count() != 2 {
		t.Error("merging changed the point of a source")
	}
}

func TestAValueIsEscapedInText(t *testing.T) {
	t.Parallel()
	metrics := telemetry.New()
	metrics.Add(&source{[]telemetry.Metric{telemetry.ClientRetries.Value(1, "a\"b\\c\nd")}})
	if got, want := text(t, metrics), `onecall_client_retries_total{onecall_api="a\"b\\c\nd"} 1`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAQuantileIsInItsBucket(t *testing.T) {
	t.Parallel()
	point := durations(0)
	for _, c := range []struct {
		q    float64
		low  float64
		high float64
	}{{0.5, 0, 0}, {0.99, 0, 0}} {
		if got := point.Quantile(c.q); got != 0 {
			t.Errorf("without values it is %v", got)
		}
	}
	point.Buckets[7], point.Buckets[40] = 99, 1 // 0.8 ms to 1 ms, and 50 s to 100 s
	if got := point.Quantile(0.5); got <= 0.0008 || got > 0.001 {
		t.Errorf("the median is %v", got)
	}
	if got := point.Quantile(0.995); got <= 50 || got > 100 {
		t.Errorf("the 99.5th percentile is %v", got)
	}
	point.Buckets[41] = 1000
	if got := point.Quantile(0.9); got != 100 {
		t.Errorf("a value above all bounds is %v, not the last bound", got)
	}
}

func TestSourcesComeAndGoWhileMetricsAreCollected(t *testing.T) {
	t.Parallel()
	metrics := telemetry.New()
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 100 {
				remove := metrics.Add(&source{[]telemetry.Metric{telemetry.ClientRetries.Value(1, "auth")}})
				metrics.Collect()
				remove()
			}
		})
	}
	running.Wait()
	if got, want := text(t, metrics), "onecall_client_retries_total{onecall_api=\"auth\"} 400\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTheNamesAreTheContract pins every name, unit, kind and attribute. A change of this
// table breaks dashboards and alerts of users.
func TestTheNamesAreTheContract(t *testing.T) {
	t.Parallel()
	rpc := "rpc.system.name rpc.method rpc.status_code error.type onecall.outcome"
	want := [][5]string{
		{"rpc.server.call.duration", "s", "histogram", "rpc_server_call_duration_seconds", rpc},
		{"onecall.server.calls.active", "{call}", "gauge", "onecall_server_calls_active", "rpc.method"},
		{"onecall.server.refusals", "{call}", "counter", "onecall_server_refusals_total", "onecall.reason"},
		{"onecall.server.shed", "{call}", "counter", "onecall_server_shed_total", "onecall.api"},
		{"onecall.server.calls.unidentified", "{call}", "counter", "onecall_server_calls_unidentified_total", ""},
		{"onecall.server.connections", "{connection}", "gauge", "onecall_server_connections", ""},
		{"onecall.server.connections.refused", "{connection}", "counter", "onecall_server_connections_refused_total", ""},
		{"onecall.server.sessions", "{session}", "gauge", "onecall_server_sessions", "onecall.state"},
		{"onecall.server.principals", "{principal}", "gauge", "onecall_server_principals", ""},
		{"onecall.server.replies.kept", "By", "gauge", "onecall_server_replies_kept_bytes", ""},
		{"onecall.server.settlements", "{question}", "counter", "onecall_server_settlements_total", "onecall.outcome"},
		{"onecall.server.ledger.unrecorded", "{call}", "counter", "onecall_server_ledger_unrecorded_total", ""},
		{"onecall.service.apis", "{api}", "gauge", "onecall_service_apis", ""},
		{"onecall.service.registered", "{api}", "gauge", "onecall_service_registered", ""},
		{"onecall.service.registry.errors", "{service}", "gauge", "onecall_service_registry_errors", ""},
		{"onecall.service.drain.duration", "s", "gauge", "onecall_service_drain_duration_seconds", ""},
		{"rpc.client.call.duration", "s", "histogram", "rpc_client_call_duration_seconds", rpc},
		{"onecall.client.retries", "{attempt}", "counter", "onecall_client_retries_total", "onecall.api"},
		{"onecall.client.settlements", "{call}", "counter", "onecall_client_settlements_total", "onecall.outcome"},
		{"onecall.client.outages", "{outage}", "counter", "onecall_client_outages_total", "onecall.api"},
		{"onecall.client.unavailable", "", "gauge", "onecall_client_unavailable", "onecall.api"},
		{"onecall.client.instances", "{instance}", "gauge", "onecall_client_instances", "onecall.api onecall.state"},
		{"onecall.client.instances.age", "s", "gauge", "onecall_client_instances_age_seconds", "onecall.api"},
		{"onecall.client.retry.tokens", "{token}", "gauge", "onecall_client_retry_tokens", ""},
		{"onecall.client.schemas.incompatible", "{schema}", "counter", "onecall_client_schemas_incompatible_total", ""},
		{"onecall.registry.registrations", "{registration}", "gauge", "onecall_registry_registrations", ""},
		{"onecall.registry.registered", "{registration}", "gauge", "onecall_registry_registered", ""},
		{"onecall.registry.lease.left", "s", "gauge", "onecall_registry_lease_left_seconds", ""},
		{"onecall.registry.writable", "", "gauge", "onecall_registry_writable", ""},
		{"onecall.registry.readable", "", "gauge", "onecall_registry_readable", ""},
		{"onecall.registry.apis", "{api}", "gauge", "onecall_registry_apis", ""},
		{"onecall.registry.skipped", "{value}", "counter", "onecall_registry_skipped_total", ""},
		{"onecall.tls.expiring", "", "gauge", "onecall_tls_expiring", ""},
		{"onecall.tls.unusable", "", "gauge", "onecall_tls_unusable", ""},
		{"onecall.policy.unusable", "", "gauge", "onecall_policy_unusable", ""},
		{"onecall.log.dropped", "{line}", "counter", "onecall_log_dropped_total", ""},
	}
	var got [][5]string
	for _, d := range telemetry.Definitions() {
		var text strings.Builder
		if err := telemetry.WriteText(&text, []telemetry.Metric{{Definition: d}}); err != nil {
			t.Fatal(err)
		}
		_, kind, _ := strings.Cut(text.String(), "# TYPE "+d.PrometheusName()+" ")
		got = append(got, [5]string{d.Name, d.Unit, strings.TrimSpace(kind), d.PrometheusName(), strings.Join(d.Attributes, " ")})
	}
	if !slices.Equal(got, want) {
		t.Errorf("the definitions are\n%q\nwant\n%q", got, want)
	}
}

// TestThePageListsAllMetrics compares docs/metrics.md with the definitions.
func TestThePageListsAllMetrics(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, d := range telemetry.Definitions() {
		var attributes []string
		for _, key := range d.Attributes {
			attributes = append(attributes, "`"+key+"`")
		}
		want = append(want, "| `"+d.Name+"` | `"+d.PrometheusName()+"` | "+strings.Join(attributes, ", ")+" | "+d.Help+" |")
	}
	var got []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `rpc.") || strings.HasPrefix(line, "| `onecall.") {
			if cells := strings.Count(line, "|"); cells == 5 {
				got = append(got, strings.TrimSpace(strings.ReplaceAll(line, "|  |", "| |")))
			}
		}
	}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], "|  |", "| |")
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/metrics.md lists\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
