package otel

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/telemetry"
)

// Tracing is a tracer provider of OpenTelemetry's SDK, and the tracer of option
// framework.Trace. It asks the sampler first, and makes a span only if the call is
// recorded, so that the other calls cost next to nothing. Its methods are safe for all
// goroutines.
type Tracing struct {
	*sdktrace.TracerProvider

	sampler sampler
	tracer  trace.Tracer
	// methods has what is known of the methods that a program knows, by name.
	methods sync.Map // of *method
}

var _ observe.Tracer = (*Tracing)(nil)

// NewTracing returns a tracer provider with a sampler and the SDK's options, such as
// sdktrace.WithBatcher(exporter). sdktrace.WithSampler and sdktrace.WithIDGenerator have
// no effect. The program shuts it down.
//
//	tracing := otel.NewTracing(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.01)), sdktrace.WithBatcher(exporter))
//	defer tracing.Shutdown(ctx)
//	bus, err := framework.NewBus(registry, framework.Trace(tracing))
//
// A batcher never blocks a call: it drops spans if its exporter is slow. A syncer does.
func NewTracing(asked sdktrace.Sampler, options ...sdktrace.TracerProviderOption) *Tracing {
	t := &Tracing{sampler: sampler{asked}}
	options = append(append([]sdktrace.TracerProviderOption{}, options...), sdktrace.WithSampler(t.sampler), sdktrace.WithIDGenerator(generator{}))
	t.TracerProvider = sdktrace.NewTracerProvider(options...)
	t.tracer = t.Tracer(scope, trace.WithSchemaURL(schema))
	return t
}

// method is what spans of a method have in common.
type method struct {
	name       string
	attributes []attribute.KeyValue
}

// methodOf returns what spans of a call's method have in common. Only methods that the
// program knows are kept.
func (t *Tracing) methodOf(call observe.TracedCall) *method {
	if found, ok := t.methods.Load(call.Method); ok {
		return found.(*method) //nolint:errcheck,forcetypeassert // nothing else is stored
	}
	of := &method{call.Method, []attribute.KeyValue{attribute.String(telemetry.SystemKey, telemetry.System), attribute.String(telemetry.MethodKey, call.Method)}}
	if !call.Known {
		return &method{telemetry.System, []attribute.KeyValue{
			of.attributes[0], attribute.String(telemetry.MethodKey, telemetry.OtherMethod), attribute.String(originalKey, call.Method),
		}}
	}
	found, _ := t.methods.LoadOrStore(call.Method, of)
	return found.(*method) //nolint:errcheck,forcetypeassert // nothing else is stored
}

// Arrived implements [observe.Tracer].
func (t *Tracing) Arrived(ctx context.Context, call observe.TracedCall) (context.Context, observe.Observer) {
	if call.Received.Parent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, &carrier{call.Received})
	}
	return t.begin(ctx, call, trace.SpanKindServer)
}

// Calling implements [observe.Tracer].
func (t *Tracing) Calling(ctx context.Context, call observe.TracedCall) (context.Context, observe.TraceContext, observe.Observer) {
	ctx, recorded := t.begin(ctx, call, trace.SpanKindClient)
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, observe.TraceContext{}, recorded // no trace has begun
	}
	var sent carrier
	propagation.TraceContext{}.Inject(ctx, &sent)
	return ctx, sent.TraceContext, recorded
}

// begin begins the span of a call, if the sampler wants it to be recorded. The result is
// nil otherwise.
func (t *Tracing) begin(ctx context.Context, call observe.TracedCall, kind trace.SpanKind) (context.Context, observe.Observer) {
	of, parent := t.methodOf(call), trace.SpanContextFromContext(ctx)
	id := parent.TraceID()
	if !id.IsValid() {
		id = newTraceID()
	}
	result := t.sampler.asked.ShouldSample(sdktrace.SamplingParameters{ParentContext: ctx, TraceID: id, Name: of.name, Kind: kind, Attributes: of.attributes})
	if result.Decision == sdktrace.Drop {
		return ctx, nil
	}
	decided := context.WithValue(ctx, decisionKey{}, &decision{id: id, result: result})
	_, recorded := t.tracer.Start(decided, of.name, trace.WithSpanKind(kind), trace.WithAttributes(of.attributes...)) //nolint:spancheck // the last event of the call ends it
	return trace.ContextWithSpan(ctx, recorded), &span{recorded, kind}                                                //nolint:spancheck // the same
}

// decision is what the sampler has said of a call.
type decision struct {
	id     trace.TraceID
	result sdktrace.SamplingResult
}

type decisionKey struct{}

func decisionOf(ctx context.Context) *decision {
	found, _ := ctx.Value(decisionKey{}).(*decision)
	return found
}

// sampler returns what was decided, and asks for other spans. A decision is in the
// context that begins its span alone.
type sampler struct{ asked sdktrace.Sampler }

// ShouldSample implements [sdktrace.Sampler].
func (s sampler) ShouldSample(parameters sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if found := decisionOf(parameters.ParentContext); found != nil {
		return found.result
	}
	return s.asked.ShouldSample(parameters)
}

// Description implements [sdktrace.Sampler].
func (s sampler) Description() string { return s.asked.Description() }

// generator returns the trace ID that the sampler was asked about, and random IDs
// otherwise.
type generator struct{}

// NewIDs implements [sdktrace.IDGenerator].
func (generator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if found := decisionOf(ctx); found != nil {
		return found.id, newSpanID()
	}
	return newTraceID(), newSpanID()
}

// NewSpanID implements [sdktrace.IDGenerator].
func (generator) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return newSpanID() }

func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// carrier reads and writes a trace context.
type carrier struct{ observe.TraceContext }

// field returns the field of a key, nil for other keys.
func (c *carrier) field(key string) *string {
	switch key {
	case observe.TraceParentKey:
		return &c.Parent
	case observe.TraceStateKey:
		return &c.State
	default:
		return nil
	}
}

// Get implements [propagation.TextMapCarrier].
func (c *carrier) Get(key string) string {
	if field := c.field(key); field != nil {
		return *field
	}
	return ""
}

// Set implements [propagation.TextMapCarrier].
func (c *carrier) Set(key, value string) {
	if field := c.field(key); field != nil {
		*field = value
	}
}

// Keys implements [propagation.TextMapCarrier].
func (*carrier) Keys() []string { return []string{observe.TraceParentKey, observe.TraceStateKey} }
