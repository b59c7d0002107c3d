package framework_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// tracer is a tracer that records every call, and sends the trace context sent.
type tracer struct {
	sent observe.TraceContext

	mu    sync.Mutex // guards calls
	calls []*tracedSpan
}

// tracedSpan is the span of a call: it keeps the call and its events.
type tracedSpan struct {
	recorder

	observe.TracedCall

	arrived bool
}

type spanKey struct{}

func (t *tracer) begin(ctx context.Context, call observe.TracedCall, arrived bool) (context.Context, framework.Observer) {
	span := &tracedSpan{TracedCall: call, arrived: arrived}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls = append(t.calls, span)
	return context.WithValue(ctx, spanKey{}, span), span
}

func (t *tracer) Arrived(ctx context.Context, call observe.TracedCall) (context.Context, framework.Observer) {
	return t.begin(ctx, call, true)
}

func (t *tracer) Calling(ctx context.Context, call observe.TracedCall) (context.Context, observe.TraceContext, framework.Observer) {
	ctx, span := t.begin(ctx, call, false)
	return ctx, t.sent, span
}

// spans returns the spans of calls that arrived, or of those that were made.
func (t *tracer) spans(arrived bool) (all []*tracedSpan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, span := range t.calls {
		if span.arrived == arrived {
			all = append(all, span)
		}
	}
	return all
}

func TestATracerIsNotNilAndNotGivenTwice(t *testing.T) {
	t.Parallel()
	for want, options := range map[string][]framework.Option{
		"the tracer is nil": {framework.Trace(nil)},
		"is given twice":    {framework.Trace(new(tracer)), framework.Trace(new(tracer))},
	} {
		var busOptions []framework.BusOption
		var serveOptions []framework.ServeOption
		for _, option := range options {
			busOptions, serveOptions = append(busOptions, option), append(serveOptions, option)
		}
		_, err := framework.NewBus(memory.New(), busOptions...)
		if err == nil || !strings.Contains(err.Error(), "option Trace: "+want) {
			t.Errorf("NewBus = %v", err)
		}
		err = framework.Serve(t.Context(), memory.New(), (&echo{}).register, serveOptions...)
		if err == nil || !strings.Contains(err.Error(), "option Trace: "+want) {
			t.Errorf("Serve = %v", err)
		}
	}
}

func TestASpanObservesItsCall(t *testing.T) {
	t.Parallel()
	sent := observe.TraceContext{Parent: "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01", State: "vendor=1"}
	traces, registry := &tracer{sent: sent}, memory.New()
	spanOf := func(ctx context.Context) *tracedSpan { span, _ := ctx.Value(spanKey{}).(*tracedSpan); return span }
	var inHandler, inStream *tracedSpan
	start(t, registry, &echo{
		echo: func(ctx context.Context, _ string) (string, error) {
			inHandler = spanOf(ctx)
			return "", status.Error(codes.NotFound, "no such thing")
		},
		watch: func(stream testv1.EchoService_WatchServer) error { inStream = spanOf(stream.Context()); return nil },
	}, framework.Trace(traces))
	bus := newBus(t, registry, framework.Trace(traces))
	ready(t, bus, "test.echo")
	_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
	if status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
	if err := everyShape["server streaming"](t.Context(), bus, &testv1.WatchRequest{}); err != nil {
		t.Fatal(err)
	}
	made, arrived := traces.spans(false), traces.spans(true)
	if len(made) != 2 || len(arrived) != 2 {
		t.Fatalf("%d calls were made and %d arrived, want 2 of each", len(made), len(arrived))
	}
	eventually.True(t, "the end of the calls", func() bool { return len(arrived[0].calls()) == 1 && len(arrived[1].calls()) == 1 })
	if inHandler != arrived[0] || inStream != arrived[1] {
		t.Error("a handler has not the context of its span")
	}
	for i, method := range []string{"onecall.test.v1.EchoService/Echo", "onecall.test.v1.EchoService/Watch"} {
		if call := made[i].TracedCall; call != (observe.TracedCall{Method: method, Known: true}) {
			t.Errorf("the bus made %+v", call)
		}
		if call := arrived[i].TracedCall; call != (observe.TracedCall{Method: method, Known: true, Received: sent}) {
			t.Errorf("at the service arrived %+v", call)
		}
		if ended := observed[framework.CallEnded](&made[i].recorder); len(ended) != 1 || ended[0].Attempts != 1 || len(observed[framework.AttemptEnded](&made[i].recorder)) != 1 {
			t.Errorf("the span of the bus observed %+v", made[i].events)
		}
	}
	if ended := arrived[0].calls()[0].event; ended != (framework.CallServed{RPC: "test.echo.echo", Code: codes.NotFound}) {
		t.Errorf("the span of the service observed %+v", ended)
	}
}

// TestATraceContextIsPassedOn calls a service whose handlers call another one.
func TestATraceContextIsPassedOn(t *testing.T) {
	t.Parallel()
	const parent, own = "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01", "00-0102030405060708090a0b0c0d0e0f10-2112131415161718-01"
	for title, test := range map[string]struct {
		arrives, sent, want map[string][]string
	}{
		"parent and state":      {map[string][]string{"traceparent": {parent}, "tracestate": {"a=1", "b=2"}}, nil, map[string][]string{"traceparent": {parent}, "tracestate": {"a=1,b=2"}}},
		"no state":              {map[string][]string{"traceparent": {parent}}, nil, map[string][]string{"traceparent": {parent}}},
		"no parent":             {map[string][]string{"tracestate": {"a=1"}}, nil, nil},
		"two parents":           {map[string][]string{"traceparent": {parent, own}}, nil, nil},
		"the handler sends own": {map[string][]string{"traceparent": {parent}}, map[string][]string{"traceparent": {own}}, map[string][]string{"traceparent": {own}}},
		"other metadata":        {map[string][]string{"traceparent": {parent}}, map[string][]string{"token": {"x"}}, map[string][]string{"traceparent": {parent}, "token": {"x"}}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			arrived := make(chan metadata.MD, 2)
			note := func(ctx context.Context) {
				incoming, _ := metadata.FromIncomingContext(ctx)
				arrived <- incoming
			}
			inner := memory.New()
			start(t, inner, &echo{
				echo:  func(ctx context.Context, _ string) (string, error) { note(ctx); return "", nil },
				watch: func(stream testv1.EchoService_WatchServer) error { note(stream.Context()); return nil },
			})
			bus := newBus(t, inner)
			registry := memory.New()
			service := start(t, registry, &echo{echo: func(ctx context.Context, _ string) (string, error) {
				if test.sent != nil {
					ctx = metadata.NewOutgoingContext(ctx, test.sent)
				}
				return "", errors.Join(everyShape["unary"](ctx, bus, &testv1.EchoRequest{}), everyShape["server streaming"](ctx, bus, &testv1.WatchRequest{}))
			}})
			conn, err := grpc.NewClient(service.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := testv1.NewEchoServiceClient(conn).Echo(metadata.NewOutgoingContext(t.Context(), test.arrives), &testv1.EchoRequest{}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got := <-arrived
				for _, key := range []string{"traceparent", "tracestate", "token"} {
					if !slices.Equal(got[key], test.want[key]) {
						t.Errorf("%s is %q, want %q", key, got[key], test.want[key])
					}
				}
			}
		})
	}
}
