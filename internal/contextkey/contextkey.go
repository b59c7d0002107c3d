// Package contextkey finds keys of contexts that other packages do not export.
package contextkey

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// The keys under which grpc-go keeps the incoming metadata of a call, its stream at the
// server, and the outgoing metadata.
var (
	Incoming = of(func(ctx context.Context) { metadata.ValueFromIncomingContext(ctx, "") })
	Stream   = of(func(ctx context.Context) { grpc.ServerTransportStreamFromContext(ctx) })
	Outgoing = of(func(ctx context.Context) { _, _ = metadata.FromOutgoingContext(ctx) })
)

// Cause is the key by which package context finds a context that can be canceled, to have
// those that derive from it end with it.
var Cause = of(func(ctx context.Context) { _ = context.Cause(ctx) })

// probe is a context that records the key that is looked up in it.
type probe struct {
	context.Context //nolint:containedctx // it is one

	key any
}

// Value implements [context.Context].
func (p *probe) Value(key any) any {
	p.key = key
	return nil
}

// of returns the context key that read looks up, in a context that has ended.
func of(read func(context.Context)) any {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // [context.Cause] looks nothing up in a context that has not ended
	found := &probe{Context: ended}
	read(found)
	return found.key
}
