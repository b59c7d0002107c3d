package prometheus_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	"github.com/onecall-dev/onecall/telemetry"
	onecallprometheus "github.com/onecall-dev/onecall/telemetry/prometheus"
)

// server serves auth.
type server struct {
	authv1.UnimplementedAuthServiceServer
}

func (server) CheckPassword(context.Context, *authv1.CheckPasswordRequest) (*authv1.CheckPasswordResponse, error) {
	return &authv1.CheckPasswordResponse{}, nil
}

// called returns the metrics of a service and a bus, and a call of the service.
func called(t *testing.T) (*telemetry.Metrics, func() error) {
	t.Helper()
	metrics := telemetry.New()
	kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) { authv1.RegisterAuthServiceServer(apis, server{}) },
		frameworktest.ServeOptions(framework.Metrics(metrics)), frameworktest.BusOptions(framework.Metrics(metrics)))
	call := func() error {
		_, err := authv1.NewAuthServiceClient(kit).CheckPassword(t.Context(), &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"})
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	return metrics, call
}

// gathered returns what a registry with a collector gathers, by name.
func gathered(t *testing.T, metrics *telemetry.Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(onecallprometheus.NewCollector(metrics)); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]*dto.MetricFamily)
	for _, family := range families {
		byName[family.GetName()] = family
	}
	return byName
}

// TestAScrapeFindsEveryMetric pins the names that a scrape finds. A registry on etcd is
// not part of it, and nothing drains.
func TestAScrapeFindsEveryMetric(t *testing.T) {
	t.Parallel()
	metrics, _ := called(t)
	families := gathered(t, metrics)
	want := []string{
		"onecall_client_instances", "onecall_client_instances_age_seconds", "onecall_client_outages_total", "onecall_client_retries_total",
		"onecall_client_retry_tokens", "onecall_client_schemas_incompatible_total", "onecall_client_settlements_total", "onecall_client_unavailable",
		"onecall_server_calls_active", "onecall_server_calls_unidentified_total", "onecall_server_connections", "onecall_server_connections_refused_total", "onecall_server_ledger_unrecorded_total",
		"onecall_server_principals", "onecall_server_refusals_total", "onecall_server_replies_kept_bytes", "onecall_server_sessions", "onecall_server_settlements_total", "onecall_server_shed_total",
		"onecall_service_apis", "onecall_service_registered",
		"onecall_service_registry_errors", "rpc_client_call_duration_seconds", "rpc_server_call_duration_seconds",
	}
	if got := slices.Sorted(maps.Keys(families)); !slices.Equal(got, want) {
		t.Errorf("a scrape finds %q, want %q", got, want)
	}
	point := families["rpc_client_call_duration_seconds"].GetMetric()[0]
	var labels []string
	for _, label := range point.GetLabel() {
		labels = append(labels, label.GetName()+"="+label.GetValue())
	}
	if got, want := strings.Join(labels, " "), "error_type= onecall_outcome=executed rpc_method=auth.v1.AuthService/CheckPassword rpc_status_code=OK rpc_system_name=grpc"; got != want {
		t.Errorf("the labels are %q, want %q", got, want)
	}
	histogram := point.GetHistogram()
	if histogram.GetSampleCount() != 1 || histogram.GetSampleSum() <= 0 || len(histogram.GetBucket()) != len(telemetry.Bounds()) ||
		!histogram.GetCreatedTimestamp().AsTime().Equal(metrics.Start()) {
		t.Errorf("the durations are %v", histogram)
	}
}

// TestTheTextWithoutALibraryIsTheSame parses the text of package telemetry as Prometheus
// does.
func TestTheTextWithoutALibraryIsTheSame(t *testing.T) {
	t.Parallel()
	metrics, _ := called(t)
	var text bytes.Buffer
	if err := telemetry.WriteText(&text, metrics.Collect()); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		t.Fatal(err)
	}
	families := gathered(t, metrics)
	if got, want := slices.Sorted(maps.Keys(parsed)), slices.Sorted(maps.Keys(families)); !slices.Equal(got, want) {
		t.Errorf("the text has %q, want %q", got, want)
	}
	for name, family := range parsed {
		want := families[name]
		if family.GetType() != want.GetType() || family.GetHelp() != want.GetHelp() || len(family.GetMetric()) != len(want.GetMetric()) {
			t.Errorf("the text has %v, want %v", family, want)
		}
	}
	bucket := func(families map[string]*dto.MetricFamily) string {
		return families["rpc_client_call_duration_seconds"].GetMetric()[0].GetHistogram().GetBucket()[20].String()
	}
	if got, want := bucket(parsed), bucket(families); got != want {
		t.Errorf("a bucket is %s, want %s", got, want)
	}
}

// TestACallDoesNotWaitForAScrape has a scraper that reads nothing.
func TestACallDoesNotWaitForAScrape(t *testing.T) {
	t.Parallel()
	metrics, call := called(t)
	stuck, ended := make(chan prometheus.Metric), make(chan struct{})
	go func() {
		defer close(ended)
		onecallprometheus.NewCollector(metrics).Collect(stuck)
	}()
	<-stuck // it has begun, and waits
	for range 10 {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	if got := gathered(t, metrics)["rpc_client_call_duration_seconds"].GetMetric()[0].GetHistogram().GetSampleCount(); got != 11 {
		t.Errorf("another scrape counts %d calls", got)
	}
	timeout := time.After(time.Minute)
	for {
		select {
		case <-stuck:
		case <-ended:
			return
		case <-timeout:
			t.Fatal("the scrape does not end")
		}
	}
}
