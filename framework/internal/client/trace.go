package client

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/framework/observe"
)

// trace begins the span of a call, if the tracer records it, and returns the context with
// which the call goes on. It has the trace context to send: the span's, or else the one
// that arrived with the call that ctx belongs to, which is always passed on.
func (r *retry) trace(ctx context.Context) context.Context {
	options, sent := &r.bus.options, observe.TraceContext{}
	if options.Tracer != nil {
		call := observe.TracedCall{Method: strings.TrimPrefix(r.route.path, "/"), Known: r.route.listed}
		var span observe.Observer
		if ctx, sent, span = options.Tracer.Calling(ctx, call); span != nil {
			r.notify = r.notify.With(options.Log, span)
		}
	}
	if sent.Parent == "" {
		parents := options.Incoming(ctx, observe.TraceParentKey)
		if len(parents) != 1 {
			return ctx
		}
		sent = observe.TraceContext{Parent: parents[0], State: strings.Join(options.Incoming(ctx, observe.TraceStateKey), ",")}
	}
	return withTrace(ctx, sent)
}

// withTrace returns a context with a trace context to send, unless the program sends its
// own.
func withTrace(ctx context.Context, sent observe.TraceContext) context.Context {
	outgoing, _ := metadata.FromOutgoingContext(ctx) // a copy
	if len(outgoing[observe.TraceParentKey]) > 0 {
		return ctx
	}
	if outgoing == nil {
		outgoing = make(metadata.MD)
	}
	outgoing[observe.TraceParentKey] = []string{sent.Parent}
	delete(outgoing, observe.TraceStateKey) // of another parent
	if sent.State != "" {
		outgoing[observe.TraceStateKey] = []string{sent.State}
	}
	return metadata.NewOutgoingContext(ctx, outgoing)
}
