// Package telemetry has the metrics of services, buses and registries: what they are, and
// their values. Option framework.Metrics collects them. Exporters read them: package
// telemetry/prometheus for Prometheus, and telemetry/otel for OpenTelemetry, each a module
// of its own. [WriteText] writes Prometheus' text format without either.
//
// The names are a contract: see docs/metrics.md.
package telemetry

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// Source has metrics. A service, a bus and a registry on etcd are sources.
type Source interface {
	// Collect calls add with the present value of each metric, once for each. It may
	// take locks, but does no I/O. It is called from any goroutine.
	Collect(add func(Metric))
}

// Metrics are the metrics of the services, buses and registries of a program, which can
// all have the same. Its methods are safe for all goroutines. No call of a
// service or a bus ever waits for one of them.
type Metrics struct {
	start time.Time

	mu sync.Mutex // guards the fields below
	// sources are the present sources, and how often each was added.
	sources map[Source]int
	// past has the counters and histograms of sources that were removed, so that no
	// counter ever falls.
	past merged
}

// New returns metrics without a source.
func New() *Metrics {
	return &Metrics{start: time.Now(), sources: make(map[Source]int), past: make(merged)}
}

// Start returns when counting began.
func (m *Metrics) Start() time.Time { return m.start }

// Add adds a source, until remove is called as often as Add was. The source must be
// comparable, such as a pointer. remove may be called again.
func (m *Metrics) Add(source Source) (remove func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources[source]++
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sources[source]--
		if m.sources[source] > 0 {
			return
		}
		delete(m.sources, source)
		source.Collect(func(metric Metric) {
			if metric.Kind == Counter || metric.Kind == Histogram {
				m.past.add(metric)
			}
		})
	})
}

// Collect returns the present metrics, sorted by name, and their points by attributes.
// Points of several sources with the same attributes are merged: see [Kind].
func (m *Metrics) Collect() []Metric {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(merged)
	for _, of := range m.past {
		all.add(of.metric())
	}
	for source := range m.sources {
		source.Collect(all.add)
	}
	var sorted []Metric
	for _, name := range slices.Sorted(maps.Keys(all)) {
		sorted = append(sorted, all[name].metric())
	}
	return sorted
}

// merged are metrics by name, with the points of several sources.
type merged map[string]*mergedMetric

type mergedMetric struct {
	definition Definition
	points     map[string]Point
}

// add merges a metric into the others.
func (m merged) add(metric Metric) {
	of := m[metric.Name]
	if of == nil {
		of = &mergedMetric{definition: metric.Definition, points: make(map[string]Point)}
		m[metric.Name] = of
	}
	for _, point := range metric.Points {
		key := point.key()
		if before, ok := of.points[key]; ok {
			point = before.merge(metric.Kind, point)
		}
		of.points[key] = point
	}
}

// metric returns the merged metric.
func (m *mergedMetric) metric() Metric {
	keys := slices.SortedFunc(maps.Keys(m.points), cmp.Compare[string])
	points := make([]Point, 0, len(keys))
	for _, key := range keys {
		points = append(points, m.points[key])
	}
	return Metric{Definition: m.definition, Points: points}
}
