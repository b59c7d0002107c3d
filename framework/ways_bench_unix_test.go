//go:build unix

package framework_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery/memory"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// cpuTime returns the processor time that this process has used.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkWays compares what a unary call of 50 bytes costs over each way, by turns. The
// metric of a way is the processor time of both ends, as a part of that of the first way.
func BenchmarkWays(b *testing.B) {
	const block = 500
	request := &testv1.EchoSoonRequest{Text: strings.Repeat("x", 48)}
	clients, used := make([]testv1.EchoServiceClient, len(ways)), make([]time.Duration, len(ways))
	for i, w := range ways {
		registry := memory.New()
		serveAny(b, registry, (&echo{}).register)
		bus := newBusOf(b, registry, w.bus...)
		ready(b, bus, "test.echo")
		clients[i] = testv1.NewEchoServiceClient(bus)
	}
	calls := 0
	for b.Loop() {
		for i, client := range clients {
			before := cpuTime(b)
			for range block {
				if _, err := client.EchoSoon(b.Context(), request); err != nil {
					b.Fatal(err)
				}
			}
			used[i] += cpuTime(b) - before
		}
		calls += block
	}
	unit := strings.NewReplacer(" ", "-") // a metric's unit has no spaces
	b.ReportMetric(float64(used[0].Nanoseconds())/float64(calls)/1e3, unit.Replace(ways[0].name)+"-µs/call")
	for i, w := range ways[1:] {
		b.ReportMetric(float64(used[i+1])/float64(used[0]), unit.Replace(w.name+"/"+ways[0].name))
	}
}

// BenchmarkEachWay measures one way at a time, with its allocations.
func BenchmarkEachWay(b *testing.B) {
	for _, w := range ways {
		b.Run(w.name, func(b *testing.B) {
			registry := memory.New()
			serveAny(b, registry, (&echo{}).register)
			bus := newBusOf(b, registry, w.bus...)
			ready(b, bus, "test.echo")
			client, request := testv1.NewEchoServiceClient(bus), &testv1.EchoSoonRequest{Text: strings.Repeat("x", 48)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.EchoSoon(b.Context(), request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
