package atmostonce

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// WithoutReserved gives ctx without the outgoing metadata whose keys begin with
// [Prefix], which only the framework may send: what a program or a gateway put
// there is not passed on.
func WithoutReserved(ctx context.Context) context.Context {
	outgoing, ok := metadata.FromOutgoingContext(ctx)
	if !ok {
		return ctx
	}
	found := false
	for key := range outgoing {
		if strings.HasPrefix(key, Prefix) {
			delete(outgoing, key)
			found = true
		}
	}
	if !found {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, outgoing)
}

// UnaryClientInterceptor drops reserved metadata from calls; it is the
// innermost, so that no other can put it back.
func UnaryClientInterceptor(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoker(WithoutReserved(ctx), method, req, reply, conn, opts...)
}

// StreamClientInterceptor drops reserved metadata from streams, likewise.
func StreamClientInterceptor(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return streamer(WithoutReserved(ctx), desc, conn, method, opts...)
}
