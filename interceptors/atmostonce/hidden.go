package atmostonce

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// The keys under which grpc-go keeps a call's incoming metadata and its stream
// in the context. They are unexported, so each is learned by asking for it.
var (
	incomingKey = keyOf(func(ctx context.Context) { metadata.ValueFromIncomingContext(ctx, "") })
	streamKey   = keyOf(func(ctx context.Context) { grpc.ServerTransportStreamFromContext(ctx) })
)

// keyProbe is a context that keeps the key it is asked for.
type keyProbe struct {
	context.Context //nolint:containedctx // it is one

	key any
}

// Value implements [context.Context].
func (p *keyProbe) Value(key any) any {
	p.key = key
	return nil
}

// keyOf returns the context key that read asks for.
func keyOf(read func(context.Context)) any {
	probe := &keyProbe{Context: context.Background()}
	read(probe)
	return probe.key
}

// incomingValues returns the values of a key of the incoming metadata, which
// must not be changed. It does not copy them, as grpc-go's function does.
func incomingValues(ctx context.Context, key string) []string {
	incoming, ok := ctx.Value(incomingKey).(metadata.MD)
	if !ok {
		return metadata.ValueFromIncomingContext(ctx, key)
	}
	if values, ok := incoming[key]; ok {
		return values
	}
	for name, values := range incoming {
		if strings.EqualFold(name, key) {
			return values
		}
	}
	return nil
}

// isReserved reports whether a metadata key begins with [Prefix], in any case.
func isReserved(key string) bool {
	return len(key) >= len(Prefix) && strings.EqualFold(key[:len(Prefix)], Prefix)
}

// hasReserved reports whether a key of the metadata is reserved.
func hasReserved(md metadata.MD) bool {
	for key := range md {
		if isReserved(key) {
			return true
		}
	}
	return false
}

// withoutReserved returns the metadata without the reserved keys: md itself if
// there are none, else a copy that shares the values.
func withoutReserved(md metadata.MD) metadata.MD {
	if !hasReserved(md) {
		return md
	}
	kept := make(metadata.MD, len(md))
	for key, values := range md {
		if !isReserved(key) {
			kept[key] = values
		}
	}
	return kept
}

// hideReserved removes reserved keys from the metadata that call options have
// received, so that a handler that passes on an inner call's trailer does not
// pass on what the inner instance says of the inner call.
func hideReserved(opts []grpc.CallOption) {
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			*opt.HeaderAddr = withoutReserved(*opt.HeaderAddr)
		case grpc.TrailerCallOption:
			*opt.TrailerAddr = withoutReserved(*opt.TrailerAddr)
		}
	}
}
