package telemetry

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// TextType is the media type of what [WriteText] writes.
const TextType = "text/plain; version=0.0.4; charset=utf-8"

// PrometheusName returns the name of a metric in Prometheus: with underscores, the unit
// and, for a counter, "_total" at its end, as OpenTelemetry's exporters name it.
func (d Definition) PrometheusName() string {
	name := Underscored(d.Name)
	switch d.Unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	}
	if d.Kind == Counter {
		name += "_total"
	}
	return name
}

// Underscored returns a name or key with underscores in place of dots, as Prometheus has
// it.
func Underscored(name string) string { return strings.ReplaceAll(name, ".", "_") }

// WriteText writes metrics in Prometheus' text format, version 0.0.4. Its error is that of
// the writer.
func WriteText(w io.Writer, metrics []Metric) error {
	text := bufio.NewWriter(w)
	for _, metric := range metrics {
		name := metric.PrometheusName()
		_, _ = text.WriteString("# HELP " + name + " " + helpEscaper.Replace(metric.Help) + "\n# TYPE " + name + " " + metric.Kind.prometheus() + "\n")
		for _, point := range metric.Points {
			writePoint(text, name, metric.Kind, point)
		}
	}
	return text.Flush() // has the error of any write
}

// prometheus returns the kind as Prometheus names it.
func (k Kind) prometheus() string {
	switch k {
	case Counter:
		return "counter"
	case Histogram:
		return "histogram"
	default:
		return "gauge"
	}
}

var (
	helpEscaper  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	valueEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func writePoint(text *bufio.Writer, name string, kind Kind, point Point) {
	var labels strings.Builder
	for _, attribute := range point.Attributes {
		labels.WriteString(Underscored(attribute.Key) + `="` + valueEscaper.Replace(attribute.Value) + `",`)
	}
	line := func(suffix, extra, value string) {
		set := strings.TrimSuffix(labels.String()+extra, ",")
		if set != "" {
			set = "{" + set + "}"
		}
		_, _ = text.WriteString(name + suffix + set + " " + value + "\n")
	}
	if kind != Histogram {
		line("", "", number(point.Value))
		return
	}
	count := uint64(0)
	for i, bucket := range point.Buckets {
		count += bucket
		bound := "+Inf"
		if i < len(bounds) {
			bound = number(bounds[i])
		}
		line("_bucket", `le="`+bound+`"`, strconv.FormatUint(count, 10))
	}
	line("_sum", "", number(point.Sum))
	line("_count", "", strconv.FormatUint(count, 10))
}

func number(value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) }
