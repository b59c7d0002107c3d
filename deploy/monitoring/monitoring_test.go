package monitoring_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/testlog"
	"github.com/onecall-dev/onecall/telemetry"
)

// server serves auth. A call for "broken" fails, and one for "waiting" waits.
type server struct {
	authv1.UnimplementedAuthServiceServer

	entered, leave chan struct{}
}

func (s server) CheckPassword(_ context.Context, request *authv1.CheckPasswordRequest) (*authv1.CheckPasswordResponse, error) {
	switch request.GetUsername() {
	case "broken":
		return nil, status.Error(codes.Internal, "it broke")
	case "waiting":
		close(s.entered)
		<-s.leave
	}
	return &authv1.CheckPasswordResponse{}, nil
}

// scrape returns the labels of each metric that a scrape of a live program finds, by the
// name in the text: a histogram has three. The program serves and calls an API over TLS
// and etcd, and drains.
func scrape(t *testing.T) map[string][]string {
	t.Helper()
	etcdServer, err := embed.Start(t.Context(), embed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	registry, err := etcd.Open(etcd.Config{Endpoints: etcdServer.Endpoints(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	files, _ := certtest.NewAuthority(t).Write(t, certtest.Leaf{Names: []string{"auth"}})
	log, admin, calls := new(testlog.Log), framework.Admin("127.0.0.1:0"), server{entered: make(chan struct{}), leave: make(chan struct{})}
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte(`{"auth": ["*"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	secure := framework.TLS(framework.TLSFiles{CA: files.CA, Cert: files.Cert, Key: files.Key})
	service, err := framework.Start(context.Background(), registry, func(apis grpc.ServiceRegistrar) { authv1.RegisterAuthServiceServer(apis, calls) },
		framework.Logger(log.Logger()), admin, secure, framework.LogCalls(), framework.AuthorizeFile(policy))
	if err != nil {
		t.Fatal(err)
	}
	bus, err := framework.NewBus(registry, framework.Logger(quiet), admin, secure, framework.LogCalls())
	if err != nil {
		t.Fatal(err)
	}
	ready, cancel := context.WithTimeout(t.Context(), eventually.Limit)
	defer cancel()
	if err := bus.Ready(ready, "auth"); err != nil {
		t.Fatal(err)
	}
	client := authv1.NewAuthServiceClient(bus)
	for _, username := range []string{"admin", "broken"} {
		_, _ = client.CheckPassword(t.Context(), &authv1.CheckPasswordRequest{Username: username, Password: "secret"})
	}
	waiting := framework.CallAsync(t.Context(), client.CheckPassword, &authv1.CheckPasswordRequest{Username: "waiting", Password: "secret"}, framework.Timeout(eventually.Limit))
	<-calls.entered
	stopped := make(chan error, 1)
	go func() { stopped <- service.Stop(context.Background()) }()
	address := regexp.MustCompile(`url=(\S+)`).FindStringSubmatch(log.String())[1]
	var found map[string][]string
	eventually.True(t, "a scrape of a program that drains", func() bool {
		found = parse(t, get(t, address+"metrics"))
		return found[telemetry.ServiceDrainDuration.PrometheusName()] != nil
	})
	close(calls.leave)
	if _, err := waiting.Await(t.Context()); err != nil {
		t.Error(err)
	}
	for _, end := range []func() error{func() error { return <-stopped }, bus.Close, registry.Close, etcdServer.Close} {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	return found
}

func get(t *testing.T, address string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// parse returns the labels of each metric of a scrape.
func parse(t *testing.T, text string) map[string][]string {
	t.Helper()
	reader := expfmt.NewTextParser(model.LegacyValidation)
	families, err := reader.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string][]string)
	for name, family := range families {
		keys := []string{"__name__", "job", "instance"} // Prometheus adds the last two
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				keys = append(keys, label.GetName())
			}
		}
		if family.GetMetric()[0].GetHistogram() == nil {
			found[name] = keys
			continue
		}
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			found[name+suffix] = append(slices.Clone(keys), "le")
		}
	}
	return found
}

// query is a query of the dashboard or of a rule.
type query struct{ where, text string }

// boardQueries returns the queries of the dashboard, with values for its variables.
func boardQueries(t *testing.T) (queries []query) {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil { //nolint:musttag // the names are found in any case
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", "x", "$method", "x")
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			queries = append(queries, query{"panel " + panel.Title, variables.Replace(target.Expr)})
		}
	}
	for _, variable := range board.Templating.List {
		if inner, ok := strings.CutPrefix(variable.Definition, "label_values("); ok {
			queries = append(queries, query{"variable " + variable.Name, variables.Replace(inner[:strings.LastIndex(inner, ",")])})
		}
	}
	const least = 40
	if len(queries) < least {
		t.Fatalf("the dashboard has %d queries", len(queries))
	}
	return queries
}

// rules returns the alert rules, as Prometheus loads them.
func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile("alerts.yaml", false, model.LegacyValidation, promql, slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return groups.Groups[0].Rules
}

var promql = parser.NewParser(promqltest.TestParserOpts)

// TestEveryQueryFindsItsMetrics parses each query, and holds it to a scrape of a live
// program: it has the metrics, and these have the labels.
func TestEveryQueryFindsItsMetrics(t *testing.T) {
	t.Parallel()
	found, used := scrape(t), make(map[string]bool)
	queries := boardQueries(t)
	for _, rule := range rules(t) {
		queries = append(queries, query{"alert " + rule.Alert, rule.Expr})
	}
	for _, of := range queries {
		expression, err := promql.ParseExpr(of.text)
		if err != nil {
			t.Errorf("%s: %v", of.where, err)
			continue
		}
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			switch node := node.(type) {
			case *parser.VectorSelector:
				for _, problem := range check(found, node, nil, used) {
					t.Errorf("%s: %s", of.where, problem)
				}
			case *parser.AggregateExpr:
				parser.Inspect(node.Expr, func(inner parser.Node, _ []parser.Node) error {
					if selector, ok := inner.(*parser.VectorSelector); ok {
						for _, problem := range check(found, selector, node.Grouping, used) {
							t.Errorf("%s: %s", of.where, problem)
						}
					}
					return nil
				})
			}
			return nil
		})
	}
	for _, definition := range telemetry.Definitions() {
		name := definition.PrometheusName()
		if definition.Kind == telemetry.Histogram {
			name += "_count"
		}
		if found[name] == nil {
			t.Errorf("the scrape has no %s", name)
		}
		if !used[name] {
			t.Errorf("neither the dashboard nor an alert has %s", name)
		}
	}
}

// check returns what is wrong with a selector and the labels by which it is grouped.
func check(found map[string][]string, selector *parser.VectorSelector, grouping []string, used map[string]bool) (problems []string) {
	for _, name := range names(selector) {
		used[name] = true
		keys := found[name]
		if keys == nil {
			problems = append(problems, "the scrape has no "+name)
			continue
		}
		for _, matcher := range selector.LabelMatchers {
			grouping = append(slices.Clip(grouping), matcher.Name)
		}
		for _, key := range grouping {
			if !slices.Contains(keys, key) {
				problems = append(problems, fmt.Sprintf("%s has no label %s", name, key))
			}
		}
	}
	return problems
}

// names returns the names of metrics that a selector may find.
func names(selector *parser.VectorSelector) []string {
	for _, matcher := range selector.LabelMatchers {
		if matcher.Name == model.MetricNameLabel {
			return strings.Split(matcher.Value, "|")
		}
	}
	return []string{selector.Name}
}

// TestEveryAlertFiresAndIsQuiet evaluates each rule with Prometheus' engine.
func TestEveryAlertFiresAndIsQuiet(t *testing.T) {
	t.Parallel()
	const calls, made = `rpc_server_call_duration_seconds_count{job="a",rpc_method="m"`, `rpc_client_call_duration_seconds_count{job="a",rpc_method="m"`
	const bucket = `rpc_server_call_duration_seconds_bucket{job="a",rpc_method="m",le=`
	tests := map[string]struct{ fires, quiet string }{
		"OnecallErrors": {
			calls + `,rpc_status_code="OK"} 0+600x60` + "\n" + calls + `,error_type="INTERNAL"} 0+12x60`,
			calls + `,rpc_status_code="NOT_FOUND"} 0+600x60` + "\n" + calls + `,error_type="INTERNAL"} 0+1x60`,
		},
		"OnecallSlow": {
			bucket + `"1"} 0+90x60` + "\n" + bucket + `"2"} 0+100x60` + "\n" + bucket + `"+Inf"} 0+100x60`,
			bucket + `"1"} 0+100x60` + "\n" + bucket + `"2"} 0+100x60` + "\n" + bucket + `"+Inf"} 0+100x60`,
		},
		"OnecallUnknownOutcomes": {
			made + `,onecall_outcome="executed"} 0+600x60` + "\n" + made + `,onecall_outcome="unknown"} 0+1x60`,
			made + `,onecall_outcome="executed"} 0+6000x60` + "\n" + made + `,onecall_outcome="refused"} 0+60x60` + "\n" + made + `,onecall_outcome="unknown"} 0+1x60`,
		},
		"OnecallUnavailable":        {`onecall_client_unavailable{job="a",onecall_api="auth"} 1x60`, `onecall_client_unavailable{job="a",onecall_api="auth"} 0x60`},
		"OnecallInstancesOld":       {`onecall_client_instances_age_seconds{job="a",onecall_api="auth"} 0+60x60`, `onecall_client_instances_age_seconds{job="a",onecall_api="auth"} 200x60`},
		"OnecallNotRegistered":      {"onecall_service_registered{job=\"a\"} 0x60\nonecall_service_apis{job=\"a\"} 2x60", "onecall_service_registered{job=\"a\"} 0x60\nonecall_service_apis{job=\"a\"} 2x60\nonecall_service_drain_duration_seconds{job=\"a\"} 1x60"},
		"OnecallRegistryAway":       {"onecall_registry_readable{job=\"a\"} 1x60\nonecall_registry_writable{job=\"a\"} 0x60", "onecall_registry_readable{job=\"a\"} 1x60\nonecall_registry_writable{job=\"a\"} 1x60"},
		"OnecallCopies":             {`onecall_server_refusals_total{job="a",onecall_reason="DUPLICATE_CALL"} 0+2x60`, `onecall_server_refusals_total{job="a",onecall_reason="DRAINING"} 0+20x60`},
		"OnecallSessionsFull":       {`onecall_server_refusals_total{job="a",onecall_reason="SESSION_LIMIT"} 0+1x60`, `onecall_server_refusals_total{job="a",onecall_reason="SESSION_LIMIT"} 7x60`},
		"OnecallShedding":           {`onecall_server_shed_total{job="a",onecall_api="auth"} 0+1x60`, `onecall_server_shed_total{job="a",onecall_api="auth"} 9x60`},
		"OnecallConnectionsRefused": {`onecall_server_connections_refused_total{job="a"} 0+1x60`, `onecall_server_connections_refused_total{job="a"} 9x60`},
		"OnecallDrainSlow":          {`onecall_service_drain_duration_seconds{job="a"} 61x60`, `onecall_service_drain_duration_seconds{job="a"} 25x60`},
		"OnecallIncompatibleSchema": {`onecall_client_schemas_incompatible_total{job="a"} 0x20 1x40`, `onecall_client_schemas_incompatible_total{job="a"} 1x60`},
		"OnecallCertificateExpires": {`onecall_tls_expiring{job="a"} 1x60`, `onecall_tls_expiring{job="a"} 0x60`},
		"OnecallFilesUnusable":      {`onecall_policy_unusable{job="a",instance="b"} 1x60`, "onecall_policy_unusable{job=\"a\"} 0x60\nonecall_tls_unusable{job=\"a\"} 0x60"},
		"OnecallLedgerLosesEnds":    {`onecall_server_ledger_unrecorded_total{job="a"} 0+1x60`, `onecall_server_ledger_unrecorded_total{job="a"} 9x60`},
		"OnecallLogDropped":         {`onecall_log_dropped_total{job="a"} 0+1x60`, `onecall_log_dropped_total{job="a"} 9x60`},
	}
	all := rules(t)
	if len(all) != len(tests) {
		t.Errorf("there are %d rules and %d tests", len(all), len(tests))
	}
	for _, rule := range all {
		t.Run(rule.Alert, func(t *testing.T) {
			t.Parallel()
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["action"] == "" {
				t.Errorf("the rule says not how severe it is, or what to do: %+v", rule)
			}
			if !evaluate(t, tests[rule.Alert].fires, rule.Expr) {
				t.Errorf("it does not fire with\n%s", tests[rule.Alert].fires)
			}
			if evaluate(t, tests[rule.Alert].quiet, rule.Expr) {
				t.Errorf("it fires with\n%s", tests[rule.Alert].quiet)
			}
		})
	}
}

// evaluate reports whether an expression has a result after half an hour of a series.
func evaluate(t *testing.T, series, expression string) bool {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.ReplaceAll(series, "\n", "\n  "))
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	found, err := engine.NewInstantQuery(t.Context(), storage, nil, expression, time.Unix(0, 0).Add(30*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	vector, err := found.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatal(err)
	}
	return len(vector) > 0
}
