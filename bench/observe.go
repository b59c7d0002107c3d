package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/onecall-dev/onecall/bench/internal/measure"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/telemetry"
	"github.com/onecall-dev/onecall/telemetry/otel"
)

// serving is a way to serve and make the same call, with options of both sides.
type serving struct {
	name    string
	options func() []framework.Option
	// server returns options of the service alone, nil if there are none.
	server func() []framework.ServeOption
}

// serveOptions returns the options of the service.
func (s serving) serveOptions() []framework.ServeOption {
	var options []framework.ServeOption
	for _, option := range s.options() {
		options = append(options, option)
	}
	if s.server != nil {
		options = append(options, s.server()...)
	}
	return options
}

// busOptions returns the options of the bus.
func (s serving) busOptions() []framework.BusOption {
	var options []framework.BusOption
	for _, option := range s.options() {
		options = append(options, option)
	}
	return options
}

// none returns no options.
func none() []framework.Option { return nil }

// securings are the ways of -secure. The others are compared with the first.
var securings = []serving{
	{"neither of both", none, nil},
	{"authentication", none, func() []framework.ServeOption { return []framework.ServeOption{authenticated()} }},
	{"authentication, authorization", none, func() []framework.ServeOption {
		return []framework.ServeOption{authenticated(), framework.Authorize(framework.Policy{api: {"caller"}})}
	}},
}

// authenticated knows every caller by one name.
func authenticated() framework.ServeOption {
	return framework.Authenticate(func(ctx context.Context) (context.Context, error) { return framework.WithPrincipal(ctx, "caller"), nil })
}

// observings are the ways of -observe. The others are compared with the first.
var observings = []serving{
	{"nothing", none, nil},
	{"metrics", func() []framework.Option { return []framework.Option{framework.Metrics(telemetry.New())} }, nil},
	{"metrics, traces unsampled", func() []framework.Option {
		return []framework.Option{framework.Metrics(telemetry.New()), traced(sdktrace.TraceIDRatioBased(0))}
	}, nil},
	{"traces at 1 %", func() []framework.Option { return []framework.Option{traced(sdktrace.TraceIDRatioBased(0.01))} }, nil},
	{"traces of all", func() []framework.Option { return []framework.Option{traced(sdktrace.AlwaysSample())} }, nil},
	{"log of errors", func() []framework.Option { return []framework.Option{logged(slog.LevelWarn), framework.LogCalls()} }, nil},
	{"log at debug", func() []framework.Option { return []framework.Option{logged(slog.LevelDebug), framework.LogCalls()} }, nil},
}

// servingOf returns the way of a name, nil if there is none.
func servingOf(name string) *serving {
	all := slices.Concat(observings, securings)
	if i := slices.IndexFunc(all, func(s serving) bool { return s.name == name }); i >= 0 {
		return &all[i]
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

// compareServings returns a function that measures ways with a number of concurrent
// callers. Each has a server and a bus of its own.
func compareServings(all []serving) func(ctx context.Context, self string, callers, turns int, length time.Duration) ([]*measure.Way, error) {
	return func(ctx context.Context, self string, callers, turns int, length time.Duration) ([]*measure.Way, error) {
		return measureServings(ctx, all, self, callers, turns, length)
	}
}

func measureServings(ctx context.Context, all []serving, self string, callers, turns int, length time.Duration) (ways []*measure.Way, err error) {
	var closers []func() error
	defer func() {
		for _, closer := range closers {
			err = errors.Join(err, closer())
		}
	}()
	for _, of := range all {
		server, err := start(ctx, self, of.name)
		if err != nil {
			return nil, err
		}
		closers = append(closers, server.Stop)
		bus, err := newBus(server.Address, server.incarnation, of.busOptions()...)
		if err != nil {
			return nil, err
		}
		closers = append(closers, bus.Close)
		ways = append(ways, &measure.Way{Name: of.name, Server: server.Server, Call: busCall(bus)})
	}
	return ways, measure.TakeTurns(ctx, ways, callers, turns, length)
}
