// Package prometheus exports the metrics of services, buses and registries to a registry
// of Prometheus' client library. It is a module of its own, so that only programs which
// import it have that library in their build.
package prometheus

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/onecall-dev/onecall/telemetry"
)

// NewCollector returns a collector of metrics, for any registry of the client library:
//
//	prometheus.MustRegister(onecallprometheus.NewCollector(metrics))
//
// It reads the metrics at each scrape. A scrape that is slow or stuck holds no lock that a
// call needs. The names and labels are in docs/metrics.md.
func NewCollector(metrics *telemetry.Metrics) prometheus.Collector {
	c := &collector{metrics: metrics, descriptions: make(map[string]*prometheus.Desc)}
	for _, of := range telemetry.Definitions() {
		var labels []string
		for _, key := range of.Attributes {
			labels = append(labels, telemetry.Underscored(key))
		}
		c.descriptions[of.Name] = prometheus.NewDesc(of.PrometheusName(), of.Help, labels, nil)
	}
	return c
}

type collector struct {
	metrics      *telemetry.Metrics
	descriptions map[string]*prometheus.Desc // by the name of the metric
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, description := range c.descriptions {
		descriptions <- description
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(collected chan<- prometheus.Metric) {
	for _, metric := range c.metrics.Collect() {
		description := c.descriptions[metric.Name]
		if description == nil {
			continue // of a source that is not the framework's
		}
		for _, point := range metric.Points {
			values := make([]string, len(metric.Attributes))
			for i, key := range metric.Attributes {
				values[i] = point.Attribute(key) // "" is the same as none
			}
			made, err := c.convert(description, metric.Kind, point, values)
			if err != nil {
				made = prometheus.NewInvalidMetric(description, err)
			}
			collected <- made
		}
	}
}

// convert returns a point as the client library has it.
func (c *collector) convert(description *prometheus.Desc, kind telemetry.Kind, point telemetry.Point, values []string) (prometheus.Metric, error) {
	switch kind {
	case telemetry.Counter:
		return prometheus.NewConstMetricWithCreatedTimestamp(description, prometheus.CounterValue, point.Value, c.metrics.Start(), values...)
	case telemetry.Histogram:
		buckets, below := make(map[float64]uint64), uint64(0)
		for i, bound := range telemetry.Bounds() {
			below += point.Buckets[i]
			buckets[bound] = below
		}
		return prometheus.NewConstHistogramWithCreatedTimestamp(description, point.Count(), point.Sum, buckets, c.metrics.Start(), values...)
	default:
		return prometheus.NewConstMetric(description, prometheus.GaugeValue, point.Value, values...)
	}
}
