package otel_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	"github.com/onecall-dev/onecall/telemetry"
	"github.com/onecall-dev/onecall/telemetry/otel"
)

// echo serves the test API. handle runs in each call of Echo.
type echo struct {
	testv1.UnimplementedEchoServiceServer

	handle func(ctx context.Context, text string) error
}

func (e *echo) Echo(ctx context.Context, request *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Text: request.GetText()}, e.handle(ctx, request.GetText())
}

func (*echo) Watch(request *testv1.WatchRequest, stream testv1.EchoService_WatchServer) error {
	return stream.Send(&testv1.WatchResponse{Text: request.GetText()})
}

// serve serves e and returns a client of it.
func serve(t *testing.T, e *echo, options ...framework.Option) (*framework.Bus, testv1.EchoServiceClient) {
	t.Helper()
	var serveOptions []framework.ServeOption
	var busOptions []framework.BusOption
	for _, option := range options {
		serveOptions, busOptions = append(serveOptions, option), append(busOptions, option)
	}
	kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) { testv1.RegisterEchoServiceServer(apis, e) },
		frameworktest.ServeOptions(serveOptions...), frameworktest.BusOptions(busOptions...))
	return kit.Bus(), testv1.NewEchoServiceClient(kit)
}

// TestEveryMetricIsProduced pins the names and kinds that a reader reads.
func TestEveryMetricIsProduced(t *testing.T) {
	t.Parallel()
	metrics := telemetry.New()
	_, client := serve(t, &echo{handle: func(context.Context, string) error { return nil }}, framework.Metrics(metrics))
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Fatal(err)
	}
	reader := sdkmetric.NewManualReader(sdkmetric.WithProducer(otel.NewProducer(metrics)))
	_ = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	read := func() (names []string, data map[string]metricdata.Aggregation) {
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		data = make(map[string]metricdata.Aggregation)
		for _, metric := range all.ScopeMetrics[0].Metrics {
			names = append(names, fmt.Sprintf("%s %s %T", metric.Name, metric.Unit, metric.Data))
			data[metric.Name] = metric.Data
		}
		return names, data
	}
	const histogram, sum, gauge = "metricdata.Histogram[float64]", "metricdata.Sum[float64]", "metricdata.Gauge[float64]"
	want := []string{
		"onecall.client.instances {instance} " + gauge,
		"onecall.client.instances.age s " + gauge,
		"onecall.client.outages {outage} " + sum,
		"onecall.client.retries {attempt} " + sum,
		"onecall.client.retry.tokens {token} " + sum,
		"onecall.client.schemas.incompatible {schema} " + sum,
		"onecall.client.settlements {call} " + sum,
		"onecall.client.unavailable  " + gauge,
		"onecall.server.calls.active {call} " + sum,
		"onecall.server.calls.unidentified {call} " + sum,
		"onecall.server.connections {connection} " + sum,
		"onecall.server.connections.refused {connection} " + sum,
		"onecall.server.ledger.unrecorded {call} " + sum,
		"onecall.server.principals {principal} " + sum,
		"onecall.server.refusals {call} " + sum,
		"onecall.server.replies.kept By " + sum,
		"onecall.server.sessions {session} " + sum,
		"onecall.server.settlements {question} " + sum,
		"onecall.server.shed {call} " + sum,
		"onecall.service.apis {api} " + sum,
		"onecall.service.registered {api} " + sum,
		"onecall.service.registry.errors {service} " + sum,
		"rpc.client.call.duration s " + histogram,
		"rpc.server.call.duration s " + histogram,
	}
	names, data := read()
	if !slices.Equal(names, want) {
		t.Errorf("a reader reads\n%s\nwant\n%s", strings.Join(names, "\n"), strings.Join(want, "\n"))
	}
	durations := data["rpc.client.call.duration"].(metricdata.Histogram[float64])
	point := durations.DataPoints[0]
	attributes := attribute.NewSet(attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", "onecall.test.v1.EchoService/Echo"),
		attribute.String("rpc.status_code", "OK"), attribute.String("onecall.outcome", "executed"))
	if point.Attributes != attributes || point.Count != 1 || point.Sum <= 0 || !slices.Equal(point.Bounds, telemetry.Bounds()) || len(point.BucketCounts) != len(point.Bounds)+1 ||
		durations.Temporality != metricdata.CumulativeTemporality || !point.StartTime.Equal(metrics.Start()) {
		t.Errorf("the durations are %+v", durations)
	}
	if retries := data["onecall.client.retries"].(metricdata.Sum[float64]); !retries.IsMonotonic {
		t.Errorf("retries are %+v", retries)
	}
	if sessions := data["onecall.server.sessions"].(metricdata.Sum[float64]); sessions.IsMonotonic {
		t.Errorf("sessions are %+v", sessions)
	}
}

// traced returns a tracing with a sampler, and its ended spans.
func traced(sampler sdktrace.Sampler) (*otel.Tracing, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	return otel.NewTracing(sampler, sdktrace.WithSpanProcessor(recorder)), recorder
}

// until waits until a number of spans have ended, and returns them by kind.
func until(t *testing.T, recorder *tracetest.SpanRecorder, n int) map[trace.SpanKind]sdktrace.ReadOnlySpan {
	t.Helper()
	spans := make(map[trace.SpanKind]sdktrace.ReadOnlySpan)
	eventually.True(t, fmt.Sprintf("the end of %d spans, on both sides", n), func() bool {
		ended := recorder.Ended()
		for _, span := range ended {
			spans[span.SpanKind()] = span
		}
		return len(ended) >= n && spans[trace.SpanKindClient] != nil && spans[trace.SpanKindServer] != nil
	})
	return spans
}

// values returns the attributes of a span as text, without those that differ.
func values(attributes []attribute.KeyValue) string {
	var texts []string
	for _, of := range attributes {
		if of.Key != "server.port" && of.Key != "onecall.incarnation" {
			texts = append(texts, string(of.Key)+"="+of.Value.String())
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, " ")
}

func TestASampledCallHasASpanOnEachSide(t *testing.T) {
	t.Parallel()
	tracing, recorder := traced(sdktrace.AlwaysSample())
	var inHandler trace.SpanContext
	bus, client := serve(t, &echo{handle: func(ctx context.Context, text string) error {
		inHandler = trace.SpanContextFromContext(ctx)
		if text == "missing" {
			return status.Error(grpccodes.NotFound, "the secret is hunter2")
		}
		return nil
	}}, framework.Trace(tracing))
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: "missing"}); status.Code(err) != grpccodes.NotFound {
		t.Fatal(err)
	}
	spans := until(t, recorder, 2)
	caller, service := spans[trace.SpanKindClient], spans[trace.SpanKindServer]
	const common = "onecall.outcome=executed rpc.method=onecall.test.v1.EchoService/Echo rpc.status_code=NOT_FOUND rpc.system.name=grpc"
	if got, want := values(caller.Attributes()), "error.type=NOT_FOUND onecall.attempts=1 "+common+" server.address=127.0.0.1"; got != want {
		t.Errorf("the caller's span has %q, want %q", got, want)
	}
	if got := values(service.Attributes()); got != common {
		t.Errorf("the service's span has %q, want %q", got, common)
	}
	if caller.Name() != "onecall.test.v1.EchoService/Echo" || service.Name() != caller.Name() {
		t.Errorf("the names are %q and %q", caller.Name(), service.Name())
	}
	if service.Parent().SpanID() != caller.SpanContext().SpanID() || !service.Parent().IsRemote() || inHandler.SpanID() != service.SpanContext().SpanID() {
		t.Errorf("the service's span %v has the parent %v, want %v; the handler saw %v", service.SpanContext(), service.Parent(), caller.SpanContext(), inHandler)
	}
	if caller.Status().Code != codes.Error || service.Status().Code != codes.Unset { // no such thing is no error of the service
		t.Errorf("the status is %v and %v", caller.Status(), service.Status())
	}
	events := caller.Events()
	if len(events) != 1 || events[0].Name != "onecall.attempt.failed" ||
		values(events[0].Attributes) != "onecall.attempt=1 onecall.outcome=executed rpc.status_code=NOT_FOUND server.address=127.0.0.1" {
		t.Errorf("the caller's span has the events %v", events)
	}

	recorder.Reset()
	stream, err := testv1.NewEchoServiceClient(bus).Watch(t.Context(), &testv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	spans = until(t, recorder, 2)
	if caller, service = spans[trace.SpanKindClient], spans[trace.SpanKindServer]; service.Parent().SpanID() != caller.SpanContext().SpanID() || caller.Name() != "onecall.test.v1.EchoService/Watch" {
		t.Errorf("the spans of a stream are %v and %v", caller, service)
	}
}

func TestAnUnknownMethodMakesNoNewName(t *testing.T) {
	t.Parallel()
	tracing, recorder := traced(sdktrace.AlwaysSample())
	bus, _ := serve(t, &echo{}, framework.Trace(tracing))
	_ = bus.Invoke(t.Context(), "/onecall.test.v1.EchoService/Nothing", &testv1.EchoRequest{}, &testv1.EchoResponse{})
	for kind, span := range until(t, recorder, 2) {
		if got := values(span.Attributes()); span.Name() != "grpc" || !strings.Contains(got, "rpc.method=_OTHER rpc.method_original=onecall.test.v1.EchoService/Nothing") {
			t.Errorf("the span of kind %v is %q, %s", kind, span.Name(), got)
		}
	}
}

// counting is a sampler that counts its questions.
type counting struct {
	sdktrace.Sampler

	mu    sync.Mutex // guards asked
	asked []sdktrace.SamplingParameters
}

func (c *counting) ShouldSample(parameters sdktrace.SamplingParameters) sdktrace.SamplingResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, parameters)
	return c.Sampler.ShouldSample(parameters)
}

func TestTheSamplerIsAskedOnceAndFirst(t *testing.T) {
	t.Parallel()
	for title, asked := range map[string]*counting{
		"sampled":     {Sampler: sdktrace.ParentBased(sdktrace.AlwaysSample())},
		"not sampled": {Sampler: sdktrace.ParentBased(sdktrace.NeverSample())},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			tracing, recorder := traced(asked)
			ended := make(chan struct{})
			_, client := serve(t, &echo{handle: func(ctx context.Context, _ string) error {
				defer close(ended)
				_, own := tracing.Tracer("own").Start(ctx, "own") // the program's own span
				own.End()
				return nil
			}}, framework.Trace(tracing))
			if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
				t.Fatal(err)
			}
			<-ended
			asked.mu.Lock()
			defer asked.mu.Unlock()
			if len(asked.asked) != 3 { // for the caller, the service and the program
				t.Fatalf("the sampler was asked %d times", len(asked.asked))
			}
			if of := asked.asked[0]; of.Name != "onecall.test.v1.EchoService/Echo" || of.Kind != trace.SpanKindClient || len(of.Attributes) != 2 || !of.TraceID.IsValid() {
				t.Errorf("the sampler was asked about %+v", of)
			}
			if title == "not sampled" {
				if spans := recorder.Started(); len(spans) != 0 {
					t.Errorf("spans were made: %v", spans)
				}
				return
			}
			spans := until(t, recorder, 3)
			if id := spans[trace.SpanKindClient].SpanContext().TraceID(); id != asked.asked[0].TraceID || id != asked.asked[2].TraceID {
				t.Errorf("the trace is %v, and the sampler was asked about %v", id, asked.asked[0].TraceID)
			}
		})
	}
}

// parent is a trace context that a caller sends.
const parent = "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-0"

// TestATraceContextIsAlwaysPassedOn has a handler call another service.
func TestATraceContextIsAlwaysPassedOn(t *testing.T) {
	t.Parallel()
	never, _ := traced(sdktrace.ParentBased(sdktrace.NeverSample()))
	always, _ := traced(sdktrace.ParentBased(sdktrace.AlwaysSample()))
	for title, test := range map[string]struct {
		options []framework.Option
		flags   string
		same    bool // whether the parent stays the same
	}{
		"without a tracer":            {nil, "1", true},
		"not sampled":                 {[]framework.Option{framework.Trace(never)}, "0", true},
		"sampled by the caller":       {[]framework.Option{framework.Trace(always)}, "1", false},
		"not sampled, not the root":   {[]framework.Option{framework.Trace(always)}, "0", true},
		"without a tracer, unsampled": {nil, "0", true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			arrived := make(chan metadata.MD, 1)
			_, inner := serve(t, &echo{handle: func(ctx context.Context, _ string) error {
				md, _ := metadata.FromIncomingContext(ctx)
				arrived <- md
				return nil
			}}, test.options...)
			_, outer := serve(t, &echo{handle: func(ctx context.Context, _ string) error {
				_, err := inner.Echo(ctx, &testv1.EchoRequest{})
				return err
			}}, test.options...)
			sent := parent + test.flags
			ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", sent, "tracestate", "vendor=1")
			if _, err := outer.Echo(ctx, &testv1.EchoRequest{}); err != nil {
				t.Fatal(err)
			}
			got := <-arrived
			if len(got["traceparent"]) != 1 || !strings.HasPrefix(got["traceparent"][0], parent[:36]) || !slices.Equal(got["tracestate"], []string{"vendor=1"}) {
				t.Fatalf("the inner service received %v %v", got["traceparent"], got["tracestate"])
			}
			if same := got["traceparent"][0] == sent; same != test.same {
				t.Errorf("the inner service received %v of %v", got["traceparent"], sent)
			}
		})
	}
}

// stuck is an exporter that never ends until it is released.
type stuck struct{ begun, release chan struct{} }

func (s stuck) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	select {
	case s.begun <- struct{}{}:
	default:
	}
	<-s.release
	return nil
}

func (stuck) Shutdown(context.Context) error { return nil }

// TestACallDoesNotWaitForACollector has an exporter that is stuck, and a queue that is
// full.
func TestACallDoesNotWaitForACollector(t *testing.T) {
	t.Parallel()
	exporter := stuck{make(chan struct{}, 1), make(chan struct{})}
	tracing := otel.NewTracing(sdktrace.AlwaysSample(), sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(2), sdktrace.WithMaxExportBatchSize(1)))
	_, client := serve(t, &echo{handle: func(context.Context, string) error { return nil }}, framework.Trace(tracing))
	call := func() {
		if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	call()
	<-exporter.begun
	for range 50 {
		call()
	}
	close(exporter.release)
	if err := tracing.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
