package framework_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	"github.com/onecall-dev/onecall/telemetry"
)

// valuesOf returns the points of a metric by the values of their attributes: of a
// histogram how many values they have.
func valuesOf(metrics *telemetry.Metrics, of telemetry.Definition) map[string]float64 {
	values := make(map[string]float64)
	for _, metric := range metrics.Collect() {
		if metric.Name != of.Name {
			continue
		}
		for _, point := range metric.Points {
			var key []string
			for _, attribute := range point.Attributes {
				if attribute.Key != telemetry.SystemKey && attribute.Key != telemetry.ErrorKey {
					key = append(key, attribute.Value)
				}
			}
			values[strings.Join(key, " ")] = point.Value + float64(point.Count())
		}
	}
	return values
}

// metered serves e and returns a bus that calls it, both with the same metrics.
func metered(t *testing.T, e *echo, options ...framework.ServeOption) (*telemetry.Metrics, *framework.Bus, *framework.Service) {
	t.Helper()
	metrics, registry := telemetry.New(), memory.New()
	service := start(t, registry, e, append(options, framework.Metrics(metrics))...)
	bus := newBus(t, registry, framework.Metrics(metrics))
	ready(t, bus, "test.echo", "onecall.test.v1.PlainService")
	return metrics, bus, service
}

func TestMetricsAreNotNil(t *testing.T) {
	t.Parallel()
	_, err := framework.NewBus(memory.New(), framework.Metrics(nil))
	if err == nil || !strings.Contains(err.Error(), "option Metrics: the metrics are nil") {
		t.Errorf("NewBus = %v", err)
	}
	err = framework.Serve(t.Context(), memory.New(), (&echo{}).register, framework.Metrics(nil))
	if err == nil || !strings.Contains(err.Error(), "option Metrics: the metrics are nil") {
		t.Errorf("Serve = %v", err)
	}
}

func TestCallsOfEveryKindAreCounted(t *testing.T) {
	t.Parallel()
	metrics, bus, _ := metered(t, &echo{echo: func(_ context.Context, text string) (string, error) {
		switch text {
		case "missing":
			return "", status.Error(codes.NotFound, "no such thing")
		case "odd":
			return "", status.Error(codes.Code(1000), "no code of gRPC")
		case "panic":
			panic("for the test")
		case "exit":
			runtime.Goexit()
		}
		return text, nil
	}})
	client := testv1.NewEchoServiceClient(bus)
	for _, text := range []string{"x", "y", "missing", "odd", "panic", "exit"} {
		_, _ = client.Echo(t.Context(), &testv1.EchoRequest{Text: text})
	}
	for shape, call := range everyShape {
		if err := call(t.Context(), bus, &testv1.WatchRequest{}); err != nil {
			t.Errorf("%s: %v", shape, err)
		}
	}
	if _, err := bus.Call(t.Context(), "test.echo.echo", framework.Args{"text": "by name"}); err != nil {
		t.Error(err)
	}
	if _, err := framework.CallAsync(t.Context(), client.Echo, &testv1.EchoRequest{}).Await(t.Context()); err != nil {
		t.Error(err)
	}
	for i := range 50 { // unknown methods make no new values
		_ = bus.Invoke(t.Context(), fmt.Sprintf("/onecall.test.v1.EchoService/M%d", i), &testv1.EchoRequest{}, &testv1.EchoResponse{})
	}
	_ = bus.Invoke(t.Context(), "no path", &testv1.EchoRequest{}, &testv1.EchoResponse{})
	const service = "onecall.test.v1.EchoService/"
	server := map[string]float64{
		service + "Echo OK executed": 5, service + "Echo NOT_FOUND executed": 1, service + "Echo UNKNOWN executed": 1, service + "Echo INTERNAL executed": 2,
		service + "Watch OK executed": 1, service + "Collect OK executed": 1, service + "Chat OK executed": 1,
	}
	bySide := maps.Clone(server)
	bySide["_OTHER UNIMPLEMENTED refused"], bySide["_OTHER INVALID_ARGUMENT not_sent"] = 50, 1
	if got := valuesOf(metrics, telemetry.ClientCallDuration); !maps.Equal(got, bySide) {
		t.Errorf("the bus counted\n%v, want\n%v", got, bySide)
	}
	eventually.True(t, "the ends of the calls", func() bool { // a caller may have its reply before the service has counted the call
		got := valuesOf(metrics, telemetry.ServerCallDuration)
		others := got["_OTHER UNIMPLEMENTED refused"] // with those of retries
		delete(got, "_OTHER UNIMPLEMENTED refused")
		return others >= 50 && maps.Equal(got, server)
	})
}

// TestErrorsOfTheCallerAreNoErrorsOfTheService holds error.type to the semantic
// conventions.
func TestErrorsOfTheCallerAreNoErrorsOfTheService(t *testing.T) {
	t.Parallel()
	metrics, bus, _ := metered(t, &echo{echo: func(_ context.Context, text string) (string, error) {
		return "", status.Error(codes.NotFound, text)
	}})
	_, _ = testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
	kind := func(name string) (found string, seen bool) {
		for _, metric := range metrics.Collect() {
			for _, point := range metric.Points {
				if metric.Name == name && point.Attribute(telemetry.StatusKey) == "NOT_FOUND" {
					return point.Attribute(telemetry.ErrorKey), true
				}
			}
		}
		return "", false
	}
	eventually.True(t, "the end of the call", func() bool { _, seen := kind("rpc.server.call.duration"); return seen })
	if client, _ := kind("rpc.client.call.duration"); client != "NOT_FOUND" {
		t.Errorf("error.type of the bus is %q", client)
	}
	if server, _ := kind("rpc.server.call.duration"); server != "" {
		t.Errorf("error.type of the service is %q", server)
	}
}

func TestRefusedCallsAreCountedByReason(t *testing.T) {
	t.Parallel()
	metrics, _, service := metered(t, &echo{}, framework.Admission(framework.AdmissionConfig{RequireIdentity: true}))
	conn, err := grpc.NewClient(service.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := testv1.NewEchoServiceClient(conn).Echo(t.Context(), &testv1.EchoRequest{}); err == nil {
		t.Error("a call without an identity was served")
	}
	if got := valuesOf(metrics, telemetry.ServerRefusals); got["IDENTITY_REQUIRED"] != 1 || got["DUPLICATE_CALL"] != 0 || len(got) < 10 {
		t.Errorf("refusals are %v", got)
	}
	eventually.True(t, "the refused call", func() bool {
		return valuesOf(metrics, telemetry.ServerCallDuration)["onecall.test.v1.EchoService/Echo FAILED_PRECONDITION refused"] == 1
	})
}

func TestTheStateOfAServiceIsMeasured(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	metrics, bus, service := metered(t, &echo{echo: func(context.Context, string) (string, error) {
		close(entered)
		<-leave
		return "", nil
	}})
	calling := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{})
	<-entered
	for _, want := range []struct {
		of    telemetry.Definition
		key   string
		value float64
	}{
		{telemetry.ServerCallsActive, "onecall.test.v1.EchoService/Echo", 1},
		{telemetry.ServerCallsActive, "onecall.test.v1.EchoService/Watch", 0},
		{telemetry.ServerSessions, "active", 1},
		{telemetry.ServerSessions, "idle", 0},
		{telemetry.ServerPrincipals, "", 1},
		{telemetry.ServerUnidentified, "", 0},
		{telemetry.ServiceAPIs, "", 2},
		{telemetry.ServiceRegistered, "", 2},
		{telemetry.ServiceRegistryErrors, "", 0},
		{telemetry.ClientInstances, "test.echo serving", 1},
		{telemetry.ClientInstances, "test.echo draining", 0},
		{telemetry.ClientInstancesAge, "test.echo", 0},
		{telemetry.ClientUnavailable, "test.echo", 0},
		{telemetry.ClientRetries, "test.echo", 0},
		{telemetry.ClientSettlements, "executed", 0},
	} {
		got, ok := valuesOf(metrics, want.of)[want.key]
		if !ok || got != want.value {
			t.Errorf("%s of %q is %v, %v, want %v", want.of.Name, want.key, got, ok, want.value)
		}
	}
	if got := valuesOf(metrics, telemetry.ServiceDrainDuration); len(got) != 0 {
		t.Errorf("the service drains: %v", got)
	}
	close(leave)
	if _, err := calling.Await(t.Context()); err != nil {
		t.Error(err)
	}
	if err := errors.Join(service.Stop(t.Context()), bus.Close()); err != nil {
		t.Error(err)
	}
	if got := valuesOf(metrics, telemetry.ClientCallDuration); got["onecall.test.v1.EchoService/Echo OK executed"] != 1 {
		t.Errorf("the counters of a closed bus are %v", got)
	}
	if got := valuesOf(metrics, telemetry.ServerSessions); len(got) != 0 {
		t.Errorf("a service that has ended has sessions: %v", got)
	}
}

func TestADrainIsMeasuredWhileItGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		metrics, leave := telemetry.New(), make(chan struct{})
		bus, running, _ := inMemory(t, &echo{echo: func(context.Context, string) (string, error) { <-leave; return "", nil }}, framework.Metrics(metrics))
		calling := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, framework.Timeout(time.Minute))
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- running.stop() }()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := valuesOf(metrics, telemetry.ServiceDrainDuration)[""]; got != 3 {
			t.Errorf("after 3 s the drain takes %v s", got)
		}
		if got := valuesOf(metrics, telemetry.ServiceRegistered)[""]; got != 0 {
			t.Errorf("%v APIs are registered", got)
		}
		close(leave)
		if _, err := calling.Await(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

func TestOutagesAndTheAgeOfTheListAreMeasured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		metrics := telemetry.New()
		since := time.Now()
		unreachable := fixed{discovery.Snapshot{Unreachable: &discovery.UnreachableError{Registry: "etcd", Since: since, Cause: errors.New("refused")}}}
		bus := newBus(t, unreachable, framework.Metrics(metrics))
		_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
		if status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
			t.Fatal(err)
		}
		time.Sleep(time.Until(since.Add(90 * time.Second)))
		synctest.Wait()
		if got := valuesOf(metrics, telemetry.ClientInstancesAge)["test.echo"]; got != 90 {
			t.Errorf("the age is %v s", got)
		}
		if got := valuesOf(metrics, telemetry.ClientUnavailable)["test.echo"]; got != 1 {
			t.Errorf("unavailable is %v", got)
		}
		if got := valuesOf(metrics, telemetry.ClientOutages)["test.echo"]; got != 1 {
			t.Errorf("there were %v outages", got)
		}
	})
}

func TestSettledCallsAreCounted(t *testing.T) {
	t.Parallel()
	metrics, registry := telemetry.New(), memory.New()
	serveSettling(t, registry, brokenAfter, executed(t, nil, &testv1.EchoSoonResponse{Text: "kept"}))
	bus := newBus(t, registry, framework.Metrics(metrics))
	if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"executed": 1, "refused": 0, "unknown": 0, "forgotten": 0}
	if got := valuesOf(metrics, telemetry.ClientSettlements); !maps.Equal(got, want) {
		t.Errorf("settled %v, want %v", got, want)
	}
}

// TestToCountACallAllocatesNothing compares the allocations of calls with and without
// metrics, on both sides.
func TestToCountACallAllocatesNothing(t *testing.T) { //nolint:paralleltest // other goroutines allocate too
	allocations := func(options ...framework.ServeOption) float64 {
		call, end, err := framework.Chained(&testv1.EchoService_ServiceDesc, &echo{}, append(options, quiet)...)
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		ctx, decode := t.Context(), func(any) error { return nil }
		return testing.AllocsPerRun(1000, func() {
			if err := call(ctx, decode); err != nil {
				t.Error(err)
			}
		})
	}
	without, with := allocations(), allocations(framework.Metrics(telemetry.New()))
	if with > without {
		t.Errorf("a service allocates %v times without metrics and %v times with them", without, with)
	}
}
