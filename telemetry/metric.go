package telemetry

import (
	"slices"
	"strings"
)

// Kind is the kind of a metric. It says how the values of several sources are merged.
type Kind int

// The kinds of metrics.
const (
	// Counter only grows. Values are added.
	Counter Kind = iota
	// UpDownCounter is a number of things that exist now. Values are added.
	UpDownCounter
	// Gauge is a measured value. The largest counts.
	Gauge
	// Histogram counts durations in buckets. Buckets are added.
	Histogram
)

// Definition says what a metric is. It does not change while a program runs.
type Definition struct {
	// Name is the name in OpenTelemetry's form, such as "rpc.server.call.duration".
	Name string
	// Unit is a unit of UCUM, such as "s", "By" or "{call}"; "" for a value that is 0 or 1.
	Unit string
	// Kind is the kind of the metric.
	Kind Kind
	// Help is one sentence for people.
	Help string
	// Attributes are the keys that its points may have, in their order.
	Attributes []string
}

// Metric is a metric at one moment.
type Metric struct {
	Definition

	// Points are its values, each for other attributes.
	Points []Point
}

// Point is one value of a metric.
type Point struct {
	// Attributes are those of the point, in the order of the definition.
	Attributes []Attribute
	// Value is the value of a metric that is not a histogram.
	Value float64
	// Buckets are how many values of a histogram are in each bucket: at most the bound
	// of [Bounds] with the same index, and above all of them in the last one.
	Buckets []uint64
	// Sum is the sum of all values of a histogram.
	Sum float64
}

// Attribute is a key and its value.
type Attribute struct{ Key, Value string }

// Count returns how many values a point of a histogram has.
func (p Point) Count() (count uint64) {
	for _, bucket := range p.Buckets {
		count += bucket
	}
	return count
}

// Attribute returns the value of a key, "" if the point does not have it.
func (p Point) Attribute(key string) string {
	for _, attribute := range p.Attributes {
		if attribute.Key == key {
			return attribute.Value
		}
	}
	return ""
}

// Bounds returns the upper bounds of the buckets of histograms, in seconds: those of gRFC
// A66. There is one more bucket for larger values.
func Bounds() []float64 { return slices.Clone(bounds) }

var bounds = []float64{
	0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008,
	0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4,
	0.5, 0.65, 0.8, 1, 2, 5, 10, 20, 50, 100,
}

// Quantile returns the value below which a share q of the values of a histogram's point
// are, in seconds, interpolated within its bucket. It returns 0 if there are no values, and
// the last bound if the value is above it.
func (p Point) Quantile(q float64) float64 {
	rank := q * float64(p.Count())
	if rank <= 0 {
		return 0
	}
	below, lower := 0.0, 0.0
	for i, bucket := range p.Buckets {
		if i == len(bounds) {
			break
		}
		if n := float64(bucket); below+n >= rank {
			return lower + (bounds[i]-lower)*(rank-below)/n
		}
		below, lower = below+float64(bucket), bounds[i]
	}
	return bounds[len(bounds)-1]
}

// key returns what distinguishes a point from the others of its metric.
func (p Point) key() string {
	var key strings.Builder
	for _, attribute := range p.Attributes {
		key.WriteString(attribute.Key)
		key.WriteByte(0)
		key.WriteString(attribute.Value)
		key.WriteByte(0)
	}
	return key.String()
}

// merge returns the point with the values of another one.
func (p Point) merge(kind Kind, other Point) Point {
	switch kind {
	case Counter, UpDownCounter:
		p.Value += other.Value
	case Gauge:
		p.Value = max(p.Value, other.Value)
	case Histogram:
		p.Buckets = slices.Clone(p.Buckets)
		for i, count := range other.Buckets {
			p.Buckets[i] += count
		}
		p.Sum += other.Sum
	}
	return p
}
