package server

import (
	"context"
	"slices"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/internal/contract"
)

// Interceptors are the program's interceptors at one place of the chain, the outermost
// first. There are as many for unary calls as for streams.
type Interceptors struct {
	unary  []grpc.UnaryServerInterceptor
	stream []grpc.StreamServerInterceptor
}

// With returns the interceptors and one more of each kind, which is the innermost.
func (i Interceptors) With(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) Interceptors {
	return i.and(Interceptors{unary: []grpc.UnaryServerInterceptor{unary}, stream: []grpc.StreamServerInterceptor{stream}})
}

// and returns the interceptors and then others, which run inside of them.
func (i Interceptors) and(others Interceptors) Interceptors {
	return Interceptors{unary: slices.Concat(i.unary, others.unary), stream: slices.Concat(i.stream, others.stream)}
}

// chainUnary returns one interceptor that runs all, the first outermost. It returns nil
// if there are none.
func chainUnary(all []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	first, rest := all[0], chainUnary(all[1:])
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return first(ctx, req, info, func(ctx context.Context, req any) (any, error) { return rest(ctx, req, info, handler) })
	}
}

// chainStream is chainUnary for streams.
func chainStream(all []grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	first, rest := all[0], chainStream(all[1:])
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return first(srv, stream, info, func(srv any, stream grpc.ServerStream) error { return rest(srv, stream, info, handler) })
	}
}

// ofAPIs returns an interceptor that does not run for streams of gRPC's own services,
// such as health. It returns nil for nil.
func ofAPIs(interceptor grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	if interceptor == nil {
		return nil
	}
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if service, _, _ := contract.SplitMethod(info.FullMethod); contract.IsBuiltin(service) {
			return handler(srv, stream)
		}
		return interceptor(srv, stream, info, handler)
	}
}

// contextStream is a stream with a context of its own.
type contextStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // the stream's own, which Context returns
}

// Context implements [grpc.ServerStream].
func (s contextStream) Context() context.Context { return s.ctx }

// Authentication returns interceptors that authenticate calls.
func Authentication(authenticate func(context.Context) (context.Context, error)) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ctx, err := authenticate(ctx)
			if err != nil {
				return nil, err
			}
			return handler(ctx, req)
		}, func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ctx, err := authenticate(stream.Context())
			if err != nil {
				return err
			}
			return handler(srv, contextStream{stream, ctx})
		}
}
