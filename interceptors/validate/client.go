package validate

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
)

// ClientStream returns a stream that checks each message at the caller: a request before
// it is sent, a reply after it is received. The first message that breaks rules ends the
// stream, as any error of SendMsg or RecvMsg does in grpc-go: a bad request is not sent,
// cancel is called, and each later call of SendMsg and RecvMsg returns the same error. If
// the method has no rules, ClientStream returns the stream itself.
//
// cancel must cancel the context of the stream. There is no other way to end a stream
// early: callers of generated code drop a stream that returned an error, and without
// cancel it would stay open. cancel is not called if the stream ends by itself:
// [grpc.OnFinish] can release the context then.
func (m Method) ClientStream(stream grpc.ClientStream, cancel context.CancelFunc) grpc.ClientStream {
	if !m.Checks() {
		return stream
	}
	return &clientStream{ClientStream: stream, method: m, cancel: cancel}
}

// clientStream is a stream whose messages are checked.
type clientStream struct {
	grpc.ClientStream

	method Method
	cancel context.CancelFunc
	fault  fault
}

// SendMsg implements [grpc.ClientStream].
func (s *clientStream) SendMsg(msg any) error {
	if err := s.fault.get(); err != nil {
		return err
	}
	if err := s.method.CheckRequest(msg); err != nil {
		return s.end(err)
	}
	return s.ClientStream.SendMsg(msg)
}

// RecvMsg implements [grpc.ClientStream].
func (s *clientStream) RecvMsg(msg any) error {
	if err := s.fault.get(); err != nil {
		return err
	}
	if err := s.ClientStream.RecvMsg(msg); err != nil {
		if fault := s.fault.get(); fault != nil && !errors.Is(err, io.EOF) {
			return fault // a bad request has ended the stream in the meantime
		}
		return err
	}
	if err := s.method.CheckReply(msg); err != nil {
		return s.end(err)
	}
	return nil
}

// end ends the stream with an error. If the stream has already ended, it returns the
// first error.
func (s *clientStream) end(err error) error {
	first := s.fault.set(err)
	s.cancel()
	return first
}
