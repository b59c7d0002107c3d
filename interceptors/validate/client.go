package validate

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
)

// ClientStream checks each message of a stream at the caller: a request before
// it is sent, a reply when it is received. At the first that breaks rules the
// stream is over, as it is for grpc-go after any error of SendMsg or RecvMsg: a
// bad request is not sent, cancel is called, and each further call of SendMsg
// and RecvMsg returns the same error. For a method without rules the stream is returned as
// it is.
//
// cancel must end the context that the stream was opened with, since there is no
// other way to end a stream early: callers of generated code drop a stream that
// returned an error, and one that is not ended would stay open. It is not called when
// the stream ends by itself: [grpc.OnFinish] can release the context then.
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
			return fault // a bad request ended the stream meanwhile
		}
		return err
	}
	if err := s.method.CheckReply(msg); err != nil {
		return s.end(err)
	}
	return nil
}

// end ends the stream with an error, or returns the one that it ended with before.
func (s *clientStream) end(err error) error {
	first := s.fault.set(err)
	s.cancel()
	return first
}
