package framework

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/validate"
)

// stream is a stream whose errors say whether its handler started.
type stream struct {
	grpc.ClientStream

	conn   *connection
	route  *route
	record *atmostonce.Record
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
	outcome := s.record.Outcome()
	if broken, ok := err.(*validate.Error); ok && broken.Reply { //nolint:errorlint // only of itself: an interceptor's may be of another call
		outcome = Executed // a reply came, whatever the server says of the call
	}
	return s.conn.explain(s.Context(), failure{route: s.route, outcome: outcome, err: err})
}
