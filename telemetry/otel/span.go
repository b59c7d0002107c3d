package otel

import (
	"context"
	"net"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	grpccodes "google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/telemetry"
)

// The keys of attributes that only spans have.
const (
	originalKey    = "rpc.method_original"
	addressKey     = "server.address"
	portKey        = "server.port"
	attemptsKey    = "onecall.attempts"
	attemptKey     = "onecall.attempt"
	incarnationKey = "onecall.incarnation"
	forgottenKey   = "onecall.forgotten"
)

// The names of the events of spans.
const (
	attemptFailed = "onecall.attempt.failed"
	callSettled   = "onecall.settled"
)

// span is the span of a call. It observes the call.
type span struct {
	trace.Span

	kind trace.SpanKind
}

// Observe implements [observe.Observer].
func (s *span) Observe(_ context.Context, event observe.Event) {
	switch event := event.(type) {
	case observe.AttemptEnded:
		s.attempt(event)
	case observe.CallSettled:
		s.AddEvent(callSettled, trace.WithAttributes(outcome(event.Outcome), attribute.Bool(forgottenKey, event.Forgotten)))
	case observe.CallEnded:
		s.SetAttributes(attribute.Int(attemptsKey, event.Attempts))
		s.end(event.Outcome, event.Code)
	case observe.CallServed:
		s.end(atmostonce.Executed, event.Code)
	case observe.CallRefused:
		if event.Reason != "" {
			s.SetAttributes(attribute.String(telemetry.ReasonKey, string(event.Reason)))
		}
		s.end(atmostonce.Refused, event.Code)
	}
}

// attempt records the instance of an attempt, and an event if it failed.
func (s *span) attempt(event observe.AttemptEnded) {
	var instance []attribute.KeyValue
	if host, port, err := net.SplitHostPort(event.Address); err == nil {
		instance = append(instance, attribute.String(addressKey, host))
		if number, err := strconv.Atoi(port); err == nil {
			instance = append(instance, attribute.Int(portKey, number))
		}
	}
	if !event.Incarnation.IsZero() {
		instance = append(instance, attribute.String(incarnationKey, event.Incarnation.String()))
	}
	s.SetAttributes(instance...)
	if event.Code == grpccodes.OK {
		return
	}
	s.AddEvent(attemptFailed, trace.WithAttributes(append(instance, attribute.Int(attemptKey, event.Number),
		attribute.String(telemetry.StatusKey, observe.StatusName(event.Code)), outcome(event.Outcome))...))
}

// end ends the span.
func (s *span) end(became atmostonce.Outcome, code grpccodes.Code) {
	status := observe.StatusName(code)
	s.SetAttributes(attribute.String(telemetry.StatusKey, status), outcome(became))
	if s.kind == trace.SpanKindClient && code != grpccodes.OK || observe.ServerError(code) {
		s.SetAttributes(attribute.String(telemetry.ErrorKey, status))
		s.SetStatus(codes.Error, "")
	}
	s.End()
}

func outcome(of atmostonce.Outcome) attribute.KeyValue {
	return attribute.String(telemetry.OutcomeKey, observe.OutcomeName(of))
}
