package observe

import "context"

// Tracer makes spans of calls: see option framework.Trace. Its methods are called from many
// goroutines at once, before a call goes on, so they must be fast. A tracer that does not
// record a call should return at once.
type Tracer interface {
	// Arrived is called when a call arrives at a service, before its authentication. ctx
	// is the context of the call. The call goes on with the returned context, which must
	// derive from ctx. span is nil if the call is not recorded.
	Arrived(ctx context.Context, call TracedCall) (_ context.Context, span Observer)

	// Calling is called when a bus begins a call. sent is sent with each attempt of the
	// call. If it is empty, what arrived with the call that ctx belongs to is passed on.
	// Otherwise it is like Arrived.
	Calling(ctx context.Context, call TracedCall) (_ context.Context, sent TraceContext, span Observer)
}

// TracedCall is what a [Tracer] knows of a call when it begins. The span of the call
// observes its events afterwards: at a bus [AttemptEnded], [Retrying] and [CallSettled],
// and at last [CallEnded]; at a service [CallServed] or [CallRefused].
type TracedCall struct {
	// Method is the method, such as "auth.v1.AuthService/CheckPassword".
	Method string
	// Known reports whether the program knows the method. If not, callers may have chosen
	// its name.
	Known bool
	// Received is what came with a call that arrives.
	Received TraceContext
}

// TraceContext is the trace context of W3C, as it is sent with a call.
type TraceContext struct {
	// Parent is the value of "traceparent", "" if there is none.
	Parent string
	// State is the value of "tracestate", "" if there is none.
	State string
}

// The metadata keys of a [TraceContext].
const (
	TraceParentKey = "traceparent"
	TraceStateKey  = "tracestate"
)
