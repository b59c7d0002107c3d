package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/telemetry"
	"github.com/onecall-dev/onecall/telemetry/otel"
)

// observing is a way to observe the same call, on both sides.
type observing struct {
	name    string
	options func() []framework.Option
}

// observings are the ways of -observe. The others are compared with the first.
var observings = []observing{
	{"nothing", func() []framework.Option { return nil }},
	{"metrics", func() []framework.Option { return []framework.Option{framework.Metrics(telemetry.New())} }},
	{"metrics, traces unsampled", func() []framework.Option {
		return []framework.Option{framework.Metrics(telemetry.New()), traced(sdktrace.TraceIDRatioBased(0))}
	}},
	{"traces at 1 %", func() []framework.Option { return []framework.Option{traced(sdktrace.TraceIDRatioBased(0.01))} }},
	{"traces of all", func() []framework.Option { return []framework.Option{traced(sdktrace.AlwaysSample())} }},
	{"log of errors", func() []framework.Option { return []framework.Option{logged(slog.LevelWarn), framework.LogCalls()} }},
	{"log at debug", func() []framework.Option { return []framework.Option{logged(slog.LevelDebug), framework.LogCalls()} }},
}

// observingOf returns the way of a name, nil if there is none.
func observingOf(name string) *observing {
	for i := range observings {
		if observings[i].name == name {
			return &observings[i]
		}
	}
	return nil
}

// traced traces calls, and drops the spans.
func traced(sampler sdktrace.Sampler) framework.Option {
	return framework.Trace(otel.NewTracing(sdktrace.ParentBased(sampler), sdktrace.WithBatcher(nowhere{})))
}

// nowhere is an exporter that drops spans.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }

// logged formats lines and drops them.
func logged(level slog.Level) framework.Option {
	return framework.Logger(slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: level}))) //nolint:sloglint // what it costs to format a line is measured
}

// compareObserved measures all ways of observing with a number of concurrent callers. Each
// has a server and a bus of its own.
func compareObserved(ctx context.Context, self string, callers, turns int, length time.Duration) (ways []*way, err error) {
	var closers []func() error
	defer func() {
		for _, closer := range closers {
			err = errors.Join(err, closer())
		}
	}()
	for _, of := range observings {
		server, err := start(ctx, self, of.name)
		if err != nil {
			return nil, err
		}
		closers = append(closers, server.stop)
		var options []framework.BusOption
		for _, option := range of.options() {
			options = append(options, option)
		}
		bus, err := newBus(server.address, server.incarnation, options...)
		if err != nil {
			return nil, err
		}
		closers = append(closers, bus.Close)
		ways = append(ways, &way{name: of.name, server: server, call: busCall(bus)})
	}
	return ways, takeTurns(ctx, ways, callers, turns, length)
}
