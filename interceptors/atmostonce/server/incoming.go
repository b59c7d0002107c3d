package server

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/internal/contextkey"
)

// Incoming returns the values of a key of the metadata with which a call arrived, which
// must not be changed. ctx is a context of the call. Unlike grpc-go's function it also
// returns the identity of the call, which is a secret.
func Incoming(ctx context.Context, key string) []string {
	if call := callOf(ctx); call != nil {
		ctx = call.Context
	}
	return incomingValues(ctx, key)
}

// incomingValues returns the values of a key of the incoming metadata, which
// must not be changed. It does not copy them, as grpc-go's function does. The context of a
// call that leaves the network out has them without its other metadata.
func incomingValues(ctx context.Context, key string) []string {
	if arrived, ok := ctx.(interface{ Incoming(key string) []string }); ok {
		if values := arrived.Incoming(key); len(values) > 0 {
			return values
		}
	}
	incoming, ok := ctx.Value(contextkey.Incoming).(metadata.MD)
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
