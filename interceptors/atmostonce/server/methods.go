package server

import (
	"context"
	"errors"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// unaryMethod is a unary method whose calls are admitted.
type unaryMethod struct {
	server  *Server
	path    string
	exempt  bool
	handler grpc.MethodHandler
	// bypassing is set once a call of the method has left its interceptor out.
	bypassing atomic.Bool
}

// serve is the method's [grpc.MethodHandler].
//
//nolint:revive // of which the context is the second parameter
func (m *unaryMethod) serve(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (reply any, err error) {
	call := &served{Context: ctx, server: m.server, read: decode, interceptor: interceptor}
	if m.exempt {
		return m.handler(srv, call, call.decode, intercept)
	}
	if m.server.config.BeforeUnary == nil {
		return m.admit(srv, call, call)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: m.path}
	return m.server.before(call, nil, info, func(ctx context.Context, _ any) (any, error) { return m.admit(srv, ctx, call) })
}

// admit runs the method if the call is admitted.
//
//nolint:revive // the context is the second parameter, as in serve
func (m *unaryMethod) admit(srv any, ctx context.Context, call *served) (reply any, err error) {
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

// bypassed returns the error of a call that ended and did not call intercept. It
// is err if the call's request could not be read or its context was lost. Else
// the method calls no interceptor, so that deadlines, authorization and rules are
// left out: it is refused from now on.
func (m *unaryMethod) bypassed(ctx context.Context, call *served, err error) error {
	if err != nil && (errors.Is(err, errStray) || call.unread != nil && errors.Is(err, call.unread)) {
		return err
	}
	_ = call.start() // something of the method ran
	if !m.bypassing.Swap(true) {
		m.server.config.Log.ErrorContext(ctx, "a method does not call its interceptor and is refused from now on: "+
			"register the description that protoc-gen-go-grpc generates, or call the interceptor in the MethodDesc's handler", "method", m.path)
	}
	return errBypassed
}

// errBypassed is of a method that calls no interceptor.
var errBypassed = status.Error(codes.Internal, "the method's MethodDesc does not call the interceptor that it is given, "+
	"which would leave out the service's deadlines, authorization and rules: "+
	"register the description that protoc-gen-go-grpc generates")

// intercept is the interceptor that a method is given. It runs the server's own
// interceptor, if there is one, with the call's own start as the handler.
func intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	call, ok := ctx.Value(servedKey{}).(*served)
	if !ok {
		return nil, errStray
	}
	if call.entered.Swap(true) {
		return nil, errTwice
	}
	call.handler = handler
	if call.interceptor == nil {
		return call.invoke(ctx, req)
	}
	return call.interceptor(ctx, req, info, call.invoke)
}

// markStream returns a stream's handler that notes that it starts.
func (s *Server) markStream(path string, desc grpc.StreamDesc) grpc.StreamHandler {
	handler := func(srv any, stream grpc.ServerStream) error {
		call, ok := stream.Context().Value(servedKey{}).(*served)
		if !ok {
			return errStray
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

// serveSingle runs the handler of a stream for which the caller sends one
// request. Generated code reads that before it calls the service's method: the
// method starts when it was read, and does not when it could not be.
func serveSingle(srv any, stream grpc.ServerStream, call *served, handler grpc.StreamHandler) (err error) {
	if call.entered.Swap(true) {
		return errTwice
	}
	if call.state.Load() == over {
		return errOver
	}
	single := &singleRequest{ServerStream: stream, call: call}
	defer func() {
		if !single.unread.Load() {
			_ = call.start() // written by hand: it ran without a request
		}
	}()
	return handler(srv, single)
}

// singleRequest is a stream whose handler starts when its request was read.
type singleRequest struct {
	grpc.ServerStream

	call *served
	// unread is set while the request is read, and stays when that fails.
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
	if s.call.state.Load() == pending { // written by hand: it runs without a request
		if err := s.call.start(); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(msg)
}
