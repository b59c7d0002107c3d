package framework

import (
	"errors"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/framework/observe"
)

// Tracer makes spans of calls: see [observe.Tracer].
type Tracer = observe.Tracer

// Trace has a tracer make spans of the calls of a service or a bus. Package telemetry/otel
// has one for OpenTelemetry. All services and buses of a program should have the same.
//
// A call on a bus has one span, with all its attempts. Also without the option, a bus
// passes on the trace context of W3C: if a handler makes a call with its context, the
// metadata "traceparent" and "tracestate" with which its own call arrived are sent, unless
// the handler sets others.
func Trace(tracer Tracer) Option {
	check := func(before Tracer) error {
		switch {
		case tracer == nil:
			return errors.New("option Trace: the tracer is nil: leave the option out")
		case before != nil:
			return errors.New("option Trace: is given twice: a call has one span")
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			err := check(o.Tracer)
			o.Tracer = tracer
			return err
		},
		busOption: func(o *client.Options) error {
			err := check(o.Tracer)
			o.Tracer = tracer
			return err
		},
	}
}
