package inprocess

import (
	"context"
	"errors"
	"io"
	"runtime/pprof"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// errLeft says that the other end has left, or the call has ended.
var errLeft = errors.New("the call has ended")

// Stream is a stream over a link: the [grpc.ClientStream] of its caller.
type Stream struct {
	call

	of   streamMethod
	desc *grpc.StreamDesc
	// arrival is what the context of the handler derives from.
	arrival arrival
	// requests are the messages of the caller.
	requests *queue

	// own is the context of the caller's end, which release ends.
	own     context.Context //nolint:containedctx // it is a running thing
	release context.CancelFunc
	ending  func(balancer.DoneInfo)
	// gone is closed when the stream has ended for the caller, and goneErr is why: nil if the
	// server ended it with OK.
	gone    chan struct{}
	goneErr error

	closed   bool // whether the caller sends no more
	received bool // whether a message was received

	closing sync.Mutex // guards the fields below
	over    bool       // whether gone is closed
	stop    []func() bool
}

var _ grpc.ClientStream = (*Stream)(nil)

// Stream returns a stream that has not begun, and counts as under way. It returns nil if the
// call must go over the network: see [Link.Unary].
func (l *Link) Stream(ctx context.Context, desc *grpc.StreamDesc, method string, caller Caller) *Stream {
	of, ok := l.server.streams[method]
	if !ok || ctx.Err() != nil || of.desc.ClientStreams != desc.ClientStreams || of.desc.ServerStreams != desc.ServerStreams {
		return nil
	}
	limits, ok := limitsOf(caller.Options)
	if !ok || validate(caller.Metadata) != nil || !fits(caller.Metadata, l.server.mostMetadata) || !l.enter() {
		return nil
	}
	return &Stream{
		call: call{link: l, method: method, caller: caller, limits: limits, finished: make(chan struct{}), sent: make(chan struct{}), replies: newQueue()},
		of:   of, desc: desc, requests: newQueue(), gone: make(chan struct{}),
	}
}

// Drop drops a stream that is not to begin, because of err.
func (s *Stream) Drop(err error) {
	s.link.leave()
	finished(s.caller.Options, err)
}

// Begin begins the stream. own is metadata besides the caller's, such as its identity. The
// stream calls ended when it has ended for the caller.
func (s *Stream) Begin(ctx context.Context, own Pair, ended func(balancer.DoneInfo)) {
	var cancel context.CancelFunc
	s.arrival.begin(&s.call, own)
	if deadline, ok := ctx.Deadline(); ok {
		s.ctx, cancel = context.WithDeadline(&s.arrival, deadline.Add(lag))
	} else {
		s.ctx, cancel = context.WithCancel(&s.arrival)
	}
	s.call.ending = canceling(cancel)
	s.ending = ended
	s.own, s.release = context.WithCancel(peer.NewContext(ctx, &s.link.peer))
	s.closing.Lock()
	defer s.closing.Unlock()
	go s.serve() //nolint:gosec // its context is not the caller's, G118
	s.stop = []func() bool{
		context.AfterFunc(s.own, func() { s.leave(status.FromContextError(s.own.Err()).Err(), true) }),
		context.AfterFunc(s.caller.Life, func() { s.leave(errClosed, false) }),
		context.AfterFunc(s.link.server.life, func() {
			if s.abandon(false) { // else the caller has yet to read the end
				s.conclude(errEnded)
			}
		}),
	}
}

// leave ends the stream for its caller, which does not wait for its end.
func (s *Stream) leave(err error, canceled bool) {
	s.abandon(canceled)
	s.conclude(err)
}

// conclude notes the end for the caller, once.
func (s *Stream) conclude(err error) {
	if s.concludes(err) {
		finished(s.caller.Options, err)
	}
}

func (s *Stream) concludes(err error) bool {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.over {
		return false
	}
	s.over, s.goneErr = true, err
	s.ending(s.info(err))
	fill(s.caller.Options, s.arrivedHeader, s.arrivedTrailer, &s.link.peer)
	close(s.gone)
	for _, stop := range s.stop {
		stop()
	}
	s.release()
	return true
}

// ended returns the error of what the caller receives after the end.
func (s *Stream) ended() error {
	if s.goneErr == nil {
		return io.EOF
	}
	return s.goneErr
}

// fail ends the stream because of an error at the caller's end, and returns that.
func (s *Stream) fail(err error) error {
	s.leave(err, true)
	return err
}

// serve serves the stream.
func (s *Stream) serve() {
	defer s.link.leave() // also if the handler ends this goroutine
	defer s.call.ending.end()
	pprof.SetGoroutineLabels(context.Background()) // the caller's are not the handler's
	info := &grpc.StreamServerInfo{FullMethod: s.method, IsClientStream: s.desc.ClientStreams, IsServerStream: s.desc.ServerStreams}
	stream := &serverStream{call: &s.call, stream: s}
	handler := s.of.desc.Handler
	var err error
	if around := s.link.server.aroundStream; around != nil {
		err = around(s.of.impl, stream, info, handler)
	} else {
		err = handler(s.of.impl, stream)
	}
	s.finish(err)
}

// Header implements [grpc.ClientStream].
func (s *Stream) Header() (metadata.MD, error) {
	select {
	case <-s.sent:
	case <-s.gone:
	}
	header := s.arrivedHeader()
	if header == nil { // the error is RecvMsg's
		select {
		case <-s.finished:
			s.conclude(s.status.Err())
		case <-s.gone:
		}
	}
	return header, nil
}

// Trailer implements [grpc.ClientStream].
func (s *Stream) Trailer() metadata.MD { return s.arrivedTrailer() }

// Context implements [grpc.ClientStream].
func (s *Stream) Context() context.Context { return s.own }

// CloseSend implements [grpc.ClientStream].
func (s *Stream) CloseSend() error {
	if !s.closed {
		s.closed = true
		s.requests.close()
	}
	return nil
}

// SendMsg implements [grpc.ClientStream].
func (s *Stream) SendMsg(message any) error {
	if s.closed {
		return s.fail(status.Error(codes.Internal, "SendMsg called after CloseSend"))
	}
	if !s.desc.ClientStreams {
		s.closed = true
		defer s.requests.close()
	}
	data, err := s.link.server.encode(message)
	if err != nil {
		return s.fail(err)
	}
	if size := data.size(); size > s.limits.sent {
		data.free()
		return s.fail(tooLarge(size, s.limits.sent))
	}
	select {
	case <-s.gone:
		data.free()
		return io.EOF
	default:
	}
	if !s.requests.push(data, s.ctx.Done()) { // the handler has returned, or the caller left
		return io.EOF
	}
	return nil
}

// RecvMsg implements [grpc.ClientStream].
func (s *Stream) RecvMsg(message any) error {
	err := s.receive(message)
	if err != nil || s.desc.ServerStreams {
		return err
	}
	// There is one message, and the end must follow.
	data, err := s.replies.pop(s.gone)
	switch {
	case err == nil:
		data.free()
		return s.fail(status.Error(codes.Internal, "cardinality violation: expected <EOF> for non server-streaming RPCs, but received another message"))
	case errors.Is(err, io.EOF):
		err = s.status.Err()
		s.conclude(err)
		return err
	default:
		return s.goneErr
	}
}

// receive receives a message, or returns the error with which the stream ends.
func (s *Stream) receive(message any) error {
	data, err := s.replies.pop(s.gone)
	switch {
	case err == nil:
		if err := s.link.server.decode(data, s.limits.received, message); err != nil {
			return s.fail(err)
		}
		s.received = true
		return nil
	case !errors.Is(err, io.EOF):
		return s.ended()
	}
	err = s.status.Err()
	if err == nil && !s.desc.ServerStreams && !s.received {
		err = errNoMessage
	}
	s.conclude(err)
	if err == nil {
		return io.EOF
	}
	return err
}

// serverStream is the server's end of a stream.
type serverStream struct {
	*call

	stream   *Stream
	received bool // whether a message was received
}

var _ grpc.ServerStream = (*serverStream)(nil)

// Context implements [grpc.ServerStream].
func (s *serverStream) Context() context.Context { return s.ctx }

// SetHeader implements [grpc.ServerStream].
func (s *serverStream) SetHeader(md metadata.MD) error {
	if err := validate(md); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return s.call.SetHeader(md)
}

// SendHeader implements [grpc.ServerStream].
func (s *serverStream) SendHeader(md metadata.MD) error {
	if err := validate(md); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return s.call.SendHeader(md)
}

// SetTrailer implements [grpc.ServerStream].
func (s *serverStream) SetTrailer(md metadata.MD) { _ = s.call.SetTrailer(md) }

// SendMsg implements [grpc.ServerStream].
func (s *serverStream) SendMsg(message any) error {
	err := s.send(message)
	if err != nil {
		s.finish(err) // as grpc-go does, whatever the handler returns
	}
	return err
}

func (s *serverStream) send(message any) error {
	data, err := s.link.server.encode(message)
	if err != nil {
		return err
	}
	if size := data.size(); size > s.link.server.mostSent {
		data.free()
		return tooLarge(size, s.link.server.mostSent)
	}
	s.mu.Lock()
	done := s.done
	if !done {
		s.sendHeader()
	}
	s.mu.Unlock()
	if done || !s.replies.push(data, s.ctx.Done()) {
		return s.reason()
	}
	return nil
}

// RecvMsg implements [grpc.ServerStream].
func (s *serverStream) RecvMsg(message any) error {
	err := s.receive(message)
	if err != nil && !errors.Is(err, io.EOF) {
		s.finish(err) // as grpc-go does, whatever the handler returns
	}
	return err
}

func (s *serverStream) receive(message any) error {
	data, err := s.stream.requests.pop(s.ctx.Done())
	switch {
	case errors.Is(err, io.EOF):
		if !s.stream.desc.ClientStreams && !s.received {
			return status.Error(codes.Internal, "cardinality violation: received no request message from non-client-streaming RPC")
		}
		return err
	case err != nil:
		return s.reason()
	}
	if err := s.link.server.decode(data, s.link.server.mostReceived, message); err != nil {
		return err
	}
	s.received = true
	return nil
}
