package otel_test

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/telemetry/otel"
)

// BenchmarkTracing measures the beginning and the end of the two spans of a call.
func BenchmarkTracing(b *testing.B) {
	call := observe.TracedCall{Method: "onecall.test.v1.EchoService/Echo", Known: true}
	for name, sampler := range map[string]sdktrace.Sampler{"unsampled": sdktrace.TraceIDRatioBased(0), "sampled": sdktrace.AlwaysSample()} {
		b.Run(name, func(b *testing.B) {
			tracing := otel.NewTracing(sdktrace.ParentBased(sampler))
			b.ReportAllocs()
			for b.Loop() {
				_, sent, span := tracing.Calling(b.Context(), call)
				arrived := call
				arrived.Received = sent
				_, served := tracing.Arrived(b.Context(), arrived)
				if served != nil {
					served.Observe(b.Context(), observe.CallServed{})
				}
				if span != nil {
					span.Observe(b.Context(), observe.CallEnded{Attempts: 1})
				}
			}
		})
	}
}
