package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

const (
	// prefix is the length of gRPC's message prefix: one byte for compression, four
	// for the length of the message.
	prefix = 5
	// largest is the largest frame that every HTTP/2 endpoint accepts.
	largest = 16 << 10
	// window is the initial flow control window of HTTP/2.
	window = 64<<10 - 1
)

// Step is one action of a script. Its error ends the script. Peer.Close returns the
// error, unless the stream or its connection had ended.
type Step func(context.Context, *Stream) error

// Stream is a request as its script sees it.
type Stream struct {
	connection *Connection
	request    *Request // guarded by the peer's lock
	whole      chan struct{}
	cancel     context.CancelFunc
}

// Request returns what has arrived so far.
func (s *Stream) Request() Request { return s.connection.peer.snapshot(s.request) }

// Connection returns the connection of the request.
func (s *Stream) Connection() *Connection { return s.connection }

// run runs the steps in order.
func (s *Stream) run(ctx context.Context, steps []Step) {
	for i, step := range steps {
		err := step(ctx, s)
		switch {
		case err == nil:
		case errors.Is(err, context.Canceled) || errors.Is(err, errEnded):
			return
		default:
			s.connection.peer.fail(fmt.Errorf("request %d, step %d: %w", s.Request().Number, i+1, err))
			_ = Reset(http2.ErrCodeInternal)(ctx, s) // so that the client does not wait for the rest
			return
		}
	}
}

// Read waits until the request has arrived completely.
func Read() Step {
	return func(ctx context.Context, s *Stream) error {
		select {
		case <-s.whole:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Execute counts the request as executed.
func Execute() Step {
	return func(_ context.Context, s *Stream) error {
		s.connection.peer.change(func() { s.request.Executed = true })
		return nil
	}
}

// Answer answers OK with a message.
func Answer(reply proto.Message) Step {
	return steps(headers(), message(reply, false), trailers(codes.OK, ""))
}

// Fail answers with an error and no message (Trailers-Only). The text is ASCII without
// a percent sign. Pairs alternates names and values of trailers.
func Fail(code codes.Code, text string, pairs ...string) Step {
	return func(_ context.Context, s *Stream) error {
		fields := append([]string{":status", "200", "content-type", "application/grpc"}, status(code, text)...)
		return s.connection.writeHeaders(s.request.Stream, true, append(fields, pairs...)...)
	}
}

// FailAfterMessage answers with a message, then with an error.
func FailAfterMessage(reply proto.Message, code codes.Code, text string, pairs ...string) Step {
	return steps(headers(), message(reply, false), trailers(code, text, pairs...))
}

// AnswerHalf answers with headers and the first half of a message.
func AnswerHalf(reply proto.Message) Step { return steps(headers(), message(reply, true)) }

// Message answers with a message and does not end the call.
func Message(reply proto.Message) Step { return steps(headers(), message(reply, false)) }

// AnswerHeaders answers with headers only.
func AnswerHeaders() Step { return headers() }

// Reset resets the stream with a code.
func Reset(code http2.ErrCode) Step {
	return func(_ context.Context, s *Stream) error {
		return s.connection.write(func(framer *http2.Framer) error { return framer.WriteRSTStream(s.request.Stream, code) })
	}
}

// GoAway sends GOAWAY: streams above last count as not processed. The connection stays
// open.
func GoAway(last uint32, code http2.ErrCode) Step {
	return func(_ context.Context, s *Stream) error { return s.connection.GoAway(last, code) }
}

// Close closes the connection: see [Connection.Close].
func Close() Step {
	return func(_ context.Context, s *Stream) error {
		s.connection.Close()
		return nil
	}
}

// Abort resets the connection: see [Connection.Abort].
func Abort() Step {
	return func(_ context.Context, s *Stream) error {
		s.connection.Abort()
		return nil
	}
}

// Silence waits until the stream, its connection or the peer ends.
func Silence() Step {
	return func(ctx context.Context, _ *Stream) error {
		<-ctx.Done()
		return nil
	}
}

// Until waits until a channel is closed.
func Until(closed <-chan struct{}) Step {
	return func(ctx context.Context, _ *Stream) error {
		select {
		case <-closed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// steps returns a step that runs several steps in order.
func steps(all ...Step) Step {
	return func(ctx context.Context, s *Stream) error {
		for _, step := range all {
			if err := step(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
}

func headers() Step {
	return func(_ context.Context, s *Stream) error {
		return s.connection.writeHeaders(s.request.Stream, false, ":status", "200", "content-type", "application/grpc")
	}
}

func trailers(code codes.Code, text string, pairs ...string) Step {
	return func(_ context.Context, s *Stream) error {
		return s.connection.writeHeaders(s.request.Stream, true, append(status(code, text), pairs...)...)
	}
}

func status(code codes.Code, text string) []string {
	return []string{"grpc-status", strconv.Itoa(int(code)), "grpc-message", text}
}

// message sends a message, or the first half of it.
func message(reply proto.Message, half bool) Step {
	return func(_ context.Context, s *Stream) error {
		body, err := proto.Marshal(reply)
		if err != nil {
			return err
		}
		if prefix+len(body) > window {
			return fmt.Errorf("a reply of %d bytes is over the initial window of %d bytes: make it smaller, or answer with a real server", len(body), window)
		}
		framed := make([]byte, prefix, prefix+len(body))
		binary.BigEndian.PutUint32(framed[1:], uint32(len(body))) //nolint:gosec // below the window
		framed = append(framed, body...)
		if half {
			framed = framed[:len(framed)/2]
		}
		return s.connection.write(func(framer *http2.Framer) error {
			for len(framed) > 0 {
				piece := framed[:min(largest, len(framed))]
				framed = framed[len(piece):]
				if err := framer.WriteData(s.request.Stream, false, piece); err != nil {
					return err
				}
			}
			return nil
		})
	}
}
