package framework_test

import (
	"io"
	"log/slog"
	"testing"

	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	"github.com/onecall-dev/onecall/telemetry"
)

// BenchmarkObservedService measures the service's half of a unary call without a
// connection, by what observes it.
func BenchmarkObservedService(b *testing.B) {
	logger := func(level slog.Level) framework.ServeOption {
		return framework.Logger(slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: level}))) //nolint:sloglint // what it costs to format a line is measured
	}
	for _, way := range []struct {
		name    string
		options []framework.ServeOption
	}{
		{"nothing", []framework.ServeOption{quiet}},
		{"metrics", []framework.ServeOption{quiet, framework.Metrics(telemetry.New())}},
		{"log of errors", []framework.ServeOption{logger(slog.LevelWarn), framework.LogCalls()}},
		{"log at debug", []framework.ServeOption{logger(slog.LevelDebug), framework.LogCalls()}},
		{"observer", []framework.ServeOption{quiet, framework.Observe(new(ignoring))}},
	} {
		b.Run(way.name, func(b *testing.B) {
			call, end, err := framework.Chained(&testv1.EchoService_ServiceDesc, &echo{}, way.options...)
			if err != nil {
				b.Fatal(err)
			}
			defer end()
			ctx, decode := b.Context(), func(any) error { return nil }
			b.ReportAllocs()
			for b.Loop() {
				if err := call(ctx, decode); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
