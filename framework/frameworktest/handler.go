package frameworktest

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/internal/contract"
)

// registrar registers the APIs of an instance, with the kit around each handler.
type registrar struct {
	kit        *Kit
	generation *generation
	to         grpc.ServiceRegistrar
}

// RegisterService implements [grpc.ServiceRegistrar].
func (r *registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if contract.IsBuiltin(desc.ServiceName) {
		r.to.RegisterService(desc, impl)
		return
	}
	if api, err := contracts().Find(desc.ServiceName); err == nil && api != nil {
		r.generation.mu.Lock()
		r.generation.names = append(r.generation.names, api.Name)
		r.generation.mu.Unlock()
		r.kit.fakes.served(desc.ServiceName)
	}
	wrapped := *desc
	wrapped.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, method := range desc.Methods {
		method.Handler = r.unary(method.Handler)
		wrapped.Methods[i] = method
	}
	wrapped.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, stream := range desc.Streams {
		stream.Handler = r.stream("/"+desc.ServiceName+"/"+stream.StreamName, stream.Handler)
		wrapped.Streams[i] = stream
	}
	r.to.RegisterService(&wrapped, impl)
}

// GetServiceInfo returns what gRPC's reflection service needs.
func (r *registrar) GetServiceInfo() map[string]grpc.ServiceInfo {
	if served, ok := r.to.(interface {
		GetServiceInfo() map[string]grpc.ServiceInfo
	}); ok {
		return served.GetServiceInfo()
	}
	return nil
}

// serving is a call that an instance serves.
type serving struct {
	ctx     context.Context //nolint:containedctx // that of the call
	method  string
	request any // of a unary call
}

// unary returns the handler of a unary method with the kit around what the program wrote.
func (r *registrar) unary(method grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		return method(srv, ctx, decode, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return interceptor(ctx, req, info, func(ctx context.Context, req any) (any, error) {
				return r.serveUnary(serving{ctx, info.FullMethod, req}, handler)
			})
		})
	}
}

func (r *registrar) serveUnary(call serving, handler grpc.UnaryHandler) (reply any, err error) {
	struck := r.kit.strikes.at(call.ctx)
	call.ctx = unmarked(call.ctx)
	record := r.kit.records.begin(call.ctx, call.method, r.generation.instance)
	record.received(call.request)
	defer func() { record.end(err) }()
	if struck != nil && struck.fault.handle != nil {
		struck.fault.handle(struck, call)
	}
	if fake := r.kit.fakes.unaryOf(call.method); fake != nil {
		reply, err = fake(call.ctx, call.request)
	} else {
		reply, err = handler(call.ctx, call.request)
	}
	if err == nil {
		record.sent(reply)
	}
	return reply, err
}

// stream returns the handler of a stream with the kit around what the program wrote.
func (r *registrar) stream(method string, handler grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) (err error) {
		struck := r.kit.strikes.at(stream.Context())
		ctx := unmarked(stream.Context())
		record := r.kit.records.begin(ctx, method, r.generation.instance)
		defer func() { record.end(err) }()
		if struck != nil && struck.fault.handle != nil {
			struck.fault.handle(struck, serving{ctx: ctx, method: method})
		}
		recorded := &recordedStream{ServerStream: stream, ctx: ctx, record: record}
		if fake := r.kit.fakes.streamOf(method); fake != nil {
			return fake(recorded)
		}
		return handler(srv, recorded)
	}
}

// unmarked returns the context of a call without the metadata of the kit.
func unmarked(ctx context.Context) context.Context {
	values, ok := metadata.FromIncomingContext(ctx)
	if !ok || len(values[strikeKey]) == 0 {
		return ctx
	}
	delete(values, strikeKey) // it is a copy
	return metadata.NewIncomingContext(ctx, values)
}

// recordedStream is a stream whose messages are recorded.
type recordedStream struct {
	grpc.ServerStream

	ctx    context.Context //nolint:containedctx // that of the stream, for its handler
	record *record
}

// Context implements [grpc.ServerStream].
func (s *recordedStream) Context() context.Context { return s.ctx }

// RecvMsg implements [grpc.ServerStream].
func (s *recordedStream) RecvMsg(message any) error {
	err := s.ServerStream.RecvMsg(message)
	if err == nil {
		s.record.received(message)
	}
	return err
}

// SendMsg implements [grpc.ServerStream].
func (s *recordedStream) SendMsg(message any) error {
	err := s.ServerStream.SendMsg(message)
	if err == nil {
		s.record.sent(message)
	}
	return err
}

// clone returns a copy of a message that nothing else changes, nil if it is none of
// protobuf.
func clone(message any) proto.Message {
	if of, ok := message.(proto.Message); ok {
		return proto.Clone(of)
	}
	return nil
}
