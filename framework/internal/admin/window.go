package admin

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/telemetry"
)

const (
	// sampleEvery is how often the counters of calls are read.
	sampleEvery = 5 * time.Second
	// samples is how many of them are kept: those of the last minute.
	samples = int(time.Minute/sampleEvery) + 1
)

// window has the counters of calls of the last minute.
type window struct {
	metrics *telemetry.Metrics

	mu      sync.Mutex // guards samples
	samples []sample   // the oldest first
}

// sample is what was counted at one moment.
type sample struct {
	at   time.Time
	rpcs map[rpcKey]*counted
}

type rpcKey struct{ side, method string }

// counted are the calls of an RPC. all has all of them, and errors the failed ones by
// outcome.
type counted struct {
	all    telemetry.Point
	failed uint64
	errors map[string]uint64
}

// read reads the counters.
func (w *window) read() sample {
	now := sample{at: time.Now(), rpcs: make(map[rpcKey]*counted)}
	for _, metric := range w.metrics.Collect() {
		side := calls
		switch metric.Name {
		case telemetry.ServerCallDuration.Name:
			side = serves
		case telemetry.ClientCallDuration.Name:
		default:
			continue
		}
		for _, point := range metric.Points {
			key := rpcKey{side, point.Attribute(telemetry.MethodKey)}
			of := now.rpcs[key]
			if of == nil {
				of = &counted{all: telemetry.Point{Buckets: make([]uint64, len(point.Buckets))}, errors: make(map[string]uint64)}
				now.rpcs[key] = of
			}
			for i, bucket := range point.Buckets {
				of.all.Buckets[i] += bucket
			}
			if point.Attribute(telemetry.StatusKey) != "OK" {
				of.failed += point.Count()
				of.errors[point.Attribute(telemetry.OutcomeKey)] += point.Count()
			}
		}
	}
	return now
}

// tick keeps a sample.
func (w *window) tick() {
	now := w.read()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.samples = append(w.samples, now)
	if len(w.samples) > samples {
		w.samples = slices.Delete(w.samples, 0, 1)
	}
}

// rpcs returns what the page shows of RPCs.
func (w *window) rpcs() []RPC {
	now, before := w.read(), sample{}
	w.mu.Lock()
	if len(w.samples) > 0 {
		before = w.samples[0]
	}
	w.mu.Unlock()
	seconds := max(now.at.Sub(before.at).Seconds(), 1)
	shown := make([]RPC, 0, len(now.rpcs))
	for key, of := range now.rpcs {
		row := RPC{Side: key.side, Method: key.method, Calls: of.all.Count(), Errors: of.errors}
		lately, failed := telemetry.Point{Buckets: slices.Clone(of.all.Buckets)}, of.failed
		if then := before.rpcs[key]; then != nil {
			failed -= then.failed
			for i, bucket := range then.all.Buckets {
				lately.Buckets[i] -= bucket
			}
		}
		row.Rate, row.ErrorRate = float64(lately.Count())/seconds, float64(failed)/seconds
		row.P50, row.P99 = lately.Quantile(0.5), lately.Quantile(0.99)
		shown = append(shown, row)
	}
	slices.SortFunc(shown, func(a, b RPC) int { return cmp.Or(-cmp.Compare(a.Side, b.Side), cmp.Compare(a.Method, b.Method)) })
	return shown
}
