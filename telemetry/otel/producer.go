package otel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/onecall-dev/onecall/telemetry"
)

// NewProducer returns a producer of metrics, for any reader of the SDK:
//
//	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(otel.NewProducer(metrics)))
//	provider := metric.NewMeterProvider(metric.WithReader(reader))
//
// The reader reads the metrics at each collection. An exporter that is slow or stuck holds
// no lock that a call needs. Values are cumulative, whatever temporality the reader prefers,
// because the SDK does not convert those of producers.
func NewProducer(metrics *telemetry.Metrics) metric.Producer { return producer{metrics} }

type producer struct{ metrics *telemetry.Metrics }

// Produce implements [metric.Producer].
func (p producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	produced := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: scope, SchemaURL: schema}}
	for _, read := range p.metrics.Collect() {
		produced.Metrics = append(produced.Metrics, metricdata.Metrics{
			Name: read.Name, Description: read.Help, Unit: read.Unit, Data: p.data(read, now),
		})
	}
	return []metricdata.ScopeMetrics{produced}, nil
}

// data returns the points of a metric.
func (p producer) data(read telemetry.Metric, now time.Time) metricdata.Aggregation {
	if read.Kind == telemetry.Histogram {
		histogram := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		for _, point := range read.Points {
			histogram.DataPoints = append(histogram.DataPoints, metricdata.HistogramDataPoint[float64]{
				Attributes: attributes(point), StartTime: p.metrics.Start(), Time: now,
				Count: point.Count(), Sum: point.Sum, Bounds: telemetry.Bounds(), BucketCounts: point.Buckets,
			})
		}
		return histogram
	}
	var points []metricdata.DataPoint[float64]
	for _, point := range read.Points {
		points = append(points, metricdata.DataPoint[float64]{Attributes: attributes(point), StartTime: p.metrics.Start(), Time: now, Value: point.Value})
	}
	if read.Kind == telemetry.Gauge {
		return metricdata.Gauge[float64]{DataPoints: points}
	}
	return metricdata.Sum[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: read.Kind == telemetry.Counter}
}

// attributes returns the attributes of a point.
func attributes(point telemetry.Point) attribute.Set {
	values := make([]attribute.KeyValue, len(point.Attributes))
	for i, of := range point.Attributes {
		values[i] = attribute.String(of.Key, of.Value)
	}
	return attribute.NewSet(values...)
}
