package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Instrument returns a copy of a service's description, to be registered in its
// place. With it, each call is admitted, and notes when its handler starts.
//
// A unary call is admitted before its request is read and before every interceptor
// of the gRPC server, so no method can leave admission out. A
// method that does not call the interceptor that it is passed is refused from its
// second call on. Streams are admitted by [Server.StreamServerInterceptor], which
// they need. Only a stream that streams in neither direction, for which grpc-go
// calls no interceptor, is admitted here.
//
// The start is noted immediately before the service's own method, inside of every
// interceptor. So the error reply of an admitted call can say whether the handler
// ran, and no interceptor can run a handler twice or after the call has ended. An
// interceptor must pass on a context that derives from the call's; otherwise the
// call fails with INTERNAL and its handler does not run.
//
// It costs a unary call 2 allocations, or 3 if the gRPC server has interceptors, and a
// stream 1, or 2 when the caller sends a single request.
func (s *Server) Instrument(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	instrumented := *desc
	instrumented.Methods = slices.Clone(desc.Methods)
	for i := range instrumented.Methods {
		method := &instrumented.Methods[i]
		path := pathOf(desc.ServiceName, method.MethodName)
		method.Handler = s.newUnaryMethod(path, method.Handler).serve
	}
	instrumented.Streams = slices.Clone(desc.Streams)
	for i := range instrumented.Streams {
		stream := &instrumented.Streams[i]
		stream.Handler = s.instrumentStream(pathOf(desc.ServiceName, stream.StreamName), *stream)
	}
	s.noteInstrumented(desc.ServiceName, desc.Streams)
	return &instrumented
}

// noteInstrumented notes the paths of a service's streams.
func (s *Server) noteInstrumented(service string, streams []grpc.StreamDesc) {
	s.instrumenting.Lock()
	defer s.instrumenting.Unlock()
	paths := maps.Clone(*s.instrumented.Load())
	for _, stream := range streams {
		path := pathOf(service, stream.StreamName)
		paths[path] = s.keeps(path)
	}
	s.instrumented.Store(&paths)
}

// keeps reports whether the replies and errors of an RPC may be kept.
func (s *Server) keeps(path string) bool {
	return s.config.KeepsReply != nil && s.config.KeepsReply(path)
}

// pathOf returns gRPC's path of a method.
func pathOf(service, method string) string { return "/" + service + "/" + method }

// unaryMethod is a unary method whose calls are admitted.
type unaryMethod struct {
	server *Server
	path   string
	exempt bool
	keeps  bool
	// outlives is whether the contexts of calls go on when their connection is lost.
	outlives bool
	handler  grpc.MethodHandler
	// arrive is the method arrived, with Around around it.
	arrive grpc.MethodHandler
	// bypassing is set when a call of the method did not call its interceptor.
	bypassing atomic.Bool
}

func (s *Server) newUnaryMethod(path string, handler grpc.MethodHandler) *unaryMethod {
	m := &unaryMethod{server: s, path: path, exempt: s.exempt(path), keeps: s.keeps(path), outlives: s.config.Outlives(path), handler: handler}
	m.arrive = m.arrived
	if s.config.Around != nil {
		m.arrive = s.config.Around(path, m.arrived)
	}
	return m
}

// serve is the method's [grpc.MethodHandler].
//
//nolint:revive // of which the context is the second parameter
func (m *unaryMethod) serve(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (reply any, err error) {
	call := &serverCall{Context: ctx, server: m.server, outlives: m.outlives, read: decode, interceptor: interceptor}
	if m.outlives {
		defer call.endOutliving()
	}
	if m.exempt {
		return m.handler(srv, call, call.decode, intercept)
	}
	call.marked.method = m.path
	returned := false
	defer func() { m.server.finish(call, m.keeps, reply, err, returned) }() // also after a panic or runtime.Goexit
	reply, err = m.arrive(srv, call, decode, interceptor)
	returned = true
	return reply, err
}

// arrived runs inside of Around.
//
//nolint:revive // the context is the second parameter, as in serve
func (m *unaryMethod) arrived(srv any, ctx context.Context, _ func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	call := callOf(ctx)
	if call == nil {
		return nil, errLost
	}
	if m.server.config.BeforeUnary == nil {
		return m.admit(srv, ctx, call)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: m.path}
	return m.server.before(ctx, call, nil, info, func(ctx context.Context, _ any) (any, error) { return m.admit(srv, ctx, call) })
}

// admit admits a call and runs the method.
//
//nolint:revive // the context is the second parameter, as in serve
func (m *unaryMethod) admit(srv any, ctx context.Context, call *serverCall) (reply any, err error) {
	identified, err := m.server.admit(ctx, call)
	if err != nil {
		return nil, err
	}
	failed := true // also after a panic or runtime.Goexit
	defer func() { m.server.end(call, identified, failed, call.end()) }()
	if m.bypassing.Load() {
		return nil, errBypassed
	}
	reply, err = m.handler(srv, ctx, call.decode, intercept)
	if !call.entered.Load() {
		if err = m.bypassed(ctx, call, err); err != nil {
			reply = nil
		}
	}
	failed = err != nil
	return reply, err
}

// bypassed returns the error of a call that ended without a call of intercept. It
// returns err if the request could not be read or the context was lost. Otherwise
// the method calls no interceptor, which leaves out deadlines, authorization and
// rules: its calls are refused from now on.
func (m *unaryMethod) bypassed(ctx context.Context, call *serverCall, err error) error {
	if err != nil && (errors.Is(err, errLost) || call.unread != nil && errors.Is(err, call.unread)) {
		return err
	}
	_ = call.start() // a part of the method ran
	if !m.bypassing.Swap(true) {
		m.server.config.Log.ErrorContext(ctx, "a method does not call its interceptor and is refused from now on: "+
			"register the description that protoc-gen-go-grpc generates, or call the interceptor in the MethodDesc's handler", "method", m.path)
	}
	return errBypassed
}

// errBypassed is the error of a method that calls no interceptor.
var errBypassed = status.Error(codes.Internal, "the method's MethodDesc does not call the interceptor that it is passed, "+
	"which would leave out the service's deadlines, authorization and rules: "+
	"register the description that protoc-gen-go-grpc generates")

// instrumentStream returns a stream's handler that notes that it starts.
func (s *Server) instrumentStream(path string, desc grpc.StreamDesc) grpc.StreamHandler {
	handler := func(srv any, stream grpc.ServerStream) error {
		call := callOf(stream.Context())
		if call == nil {
			return errLost
		}
		if !desc.ClientStreams {
			return serveSingle(srv, stream, call, desc.Handler)
		}
		if err := call.start(); err != nil {
			return err
		}
		return desc.Handler(srv, stream)
	}
	if desc.ClientStreams || desc.ServerStreams {
		return handler
	}
	info := &grpc.StreamServerInfo{FullMethod: path}
	return func(srv any, stream grpc.ServerStream) error { return s.serveStream(srv, stream, info, handler) }
}

// serveSingle runs the handler of a stream for which the caller sends one request.
// Generated code reads the request before it calls the service's method, so the
// handler counts as started once the request is read.
func serveSingle(srv any, stream grpc.ServerStream, call *serverCall, handler grpc.StreamHandler) (err error) {
	if call.entered.Swap(true) {
		return errTwice
	}
	if call.state.Load() == ended {
		return errEnded
	}
	single := &singleRequest{ServerStream: stream, call: call}
	defer func() {
		if !single.unread.Load() {
			_ = call.start() // a handler that is not generated ran without its request
		}
	}()
	return handler(srv, single)
}

// singleRequest is a stream whose handler starts when its request is read.
type singleRequest struct {
	grpc.ServerStream

	call *serverCall
	// unread is set while the request is read, and stays set if that fails.
	unread atomic.Bool
}

// RecvMsg implements [grpc.ServerStream].
func (s *singleRequest) RecvMsg(msg any) error {
	if s.call.state.Load() == started {
		return s.ServerStream.RecvMsg(msg)
	}
	s.unread.Store(true)
	if err := s.ServerStream.RecvMsg(msg); err != nil {
		return err
	}
	if err := s.call.start(); err != nil {
		return err
	}
	s.unread.Store(false)
	return nil
}

// SendMsg implements [grpc.ServerStream].
func (s *singleRequest) SendMsg(msg any) error {
	if s.call.state.Load() == pending { // a handler that is not generated runs without its request
		if err := s.call.start(); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(msg)
}
