package framework

import (
	"errors"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/telemetry"
)

// Metrics has a service or a bus count its calls, their durations and its own state in
// metrics. All services and buses of a program can have the same. The names and meanings
// are in docs/metrics.md. Package telemetry/prometheus and package telemetry/otel export
// metrics.
//
// To count a call takes no lock and no allocation. Without the option nothing is counted
// that [Service.Stats] and [Bus.Stats] do not need. A registry that has metrics, such as
// one on etcd, is added to them too.
func Metrics(metrics *telemetry.Metrics) Option {
	check := func() error {
		if metrics == nil {
			return errors.New("option Metrics: the metrics are nil: give telemetry.New, or leave the option out")
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Metrics = metrics
			return check()
		},
		busOption: func(o *client.Options) error {
			o.Metrics = metrics
			return check()
		},
	}
}
