package framework

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
)

// stream is a stream whose errors say whether its handler started.
type stream struct {
	grpc.ClientStream

	retry  retry // how it came to be begun
	conn   *connection
	route  *route
	record *client.Attempt
}

// RecvMsg implements [grpc.ClientStream].
func (s *stream) RecvMsg(message any) error { return s.told(s.ClientStream.RecvMsg(message)) }

// SendMsg implements [grpc.ClientStream].
func (s *stream) SendMsg(message any) error { return s.told(s.ClientStream.SendMsg(message)) }

// told gives an error in words; io.EOF is no error.
func (s *stream) told(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	failed := newFailure(s.route, s.record, s.retry.outcome(s.record), err)
	failed = failed.locate(s.conn.held.links, s.record, s.retry.first)
	return s.conn.explain(s.record.Context, failed)
}
