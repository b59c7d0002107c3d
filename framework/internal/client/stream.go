package client

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// maxKept is how many bytes of messages a stream keeps for a retry at most. The first
// message is always kept, because most streams send only one.
const maxKept = 64 << 10

// stream is a stream of the program. Its errors have an outcome: whether the handler
// started.
//
// It keeps the messages that the program sends until the first message of the
// instance arrives or the program reads the header. If the attempt fails before that,
// and a retry is safe, RecvMsg begins the stream again and sends the same messages. So
// SendMsg returns nil also if the attempt has failed.
type stream struct {
	//nolint:containedctx // it is a running thing
	ctx     context.Context
	route   *Route
	channel *channel
	desc    *grpc.StreamDesc
	opts    []grpc.CallOption
	// retry is used by NewStream, then by RecvMsg. mu guards it against SendMsg.
	retry retry

	ended atomic.Bool // whether the end was counted

	// settled says that the stream will not be begun again, so current does not change.
	settled atomic.Bool

	// mu guards the fields below. It is held while the stream is begun again, so that
	// SendMsg waits.
	mu      sync.Mutex
	current *streamAttempt
	kept    []any // the sent messages
	size    int   // of kept, in bytes
	closed  bool  // whether CloseSend was called
	// overflowed says that the program has sent more than can be kept.
	overflowed bool
}

// streamAttempt is one attempt of a stream.
type streamAttempt struct {
	grpc.ClientStream

	attempt *client.Attempt
	begun   time.Time
	ended   atomic.Bool // whether the observers were notified of the end
	cancel  context.CancelFunc
}

// NewStream begins a stream.
func (r *Route) NewStream(ctx context.Context, desc *grpc.StreamDesc, opts []grpc.CallOption) (grpc.ClientStream, error) {
	retry, ctx := newRetry(ctx, r)
	retry.opts, retry.stream = opts, true
	if timeout.HasOption(opts) {
		err := callerr.Invalid(r.rpc, "it is a stream, which option Timeout does not bound: set a deadline on its context")
		return nil, retry.end(ctx, true, err)
	}
	if _, given := settleOption(opts); given {
		err := callerr.Invalid(r.rpc, "it is a stream, which option SettleWithin does not settle: settle its error with Settle")
		return nil, retry.end(ctx, true, err)
	}
	s := &stream{ctx: ctx, route: r, channel: r.client.withTimeouts, desc: desc, opts: opts, retry: retry}
	var err error
	if s.current, err = s.begin(); err != nil {
		return nil, s.retry.end(ctx, true, err)
	}
	return s, nil
}

// begin makes attempts until one has a connection.
func (s *stream) begin() (*streamAttempt, error) {
	for {
		before := s.channel.availability.now()
		attempt := s.channel.calls.NewAttempt(s.ctx, s.route.path)
		if s.retry.attempts == 0 {
			attempt.UseLink() // further ones go where the balancer sends them
		}
		s.retry.attempts, s.retry.last = s.retry.attempts+1, attempt
		now := s.retry.notify.Now()
		begun, err := s.try(attempt, now)
		if err == nil {
			return begun, nil
		}
		s.retry.attemptEnded(s.ctx, attempt, now, err)
		failed := s.retry.failure(s.channel, attempt, before, err)
		if !s.retry.wait(s.ctx, attempt, failed) {
			return nil, s.retry.bus.explain(s.ctx, failed)
		}
	}
}

// try makes one attempt. The messages of the stream are checked against their rules.
func (s *stream) try(attempt *client.Attempt, now time.Time) (*streamAttempt, error) {
	defer attempt.End()
	ctx, cancel := context.WithCancel(attempt)
	opts := append(slices.Clip(s.opts), grpc.OnFinish(func(error) { cancel() }))
	begun, err := s.channel.NewStream(ctx, s.desc, s.route.path, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	return &streamAttempt{ClientStream: s.route.rules.ClientStream(begun, cancel), attempt: attempt, begun: now, cancel: cancel}, nil
}

// RecvMsg implements [grpc.ClientStream].
func (s *stream) RecvMsg(message any) error {
	for {
		current := s.now()
		err := current.RecvMsg(message)
		if err == nil || errors.Is(err, io.EOF) {
			if !s.settled.Load() {
				s.retry.succeeded()
				s.settle()
			}
			if err != nil || !s.desc.ServerStreams {
				s.attemptEnded(current, nil)
				s.end(nil)
			}
			return err
		}
		s.attemptEnded(current, err)
		failed := s.retry.failure(s.channel, current.attempt, nil, err)
		again, err := s.again(current.attempt, failed)
		if !again {
			s.end(err)
			return err
		}
	}
}

// again begins the stream again after a failed attempt. It returns whether it did, and
// otherwise the error of the stream.
func (s *stream) again(attempt *client.Attempt, failed failure) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.overflowed && s.retry.isRefusal(attempt, failed) {
		failed.unretried = "it was not retried, because the program had sent more than 64 KiB before the first message of the instance"
	}
	if s.settled.Load() || s.overflowed || !s.retry.wait(s.ctx, attempt, failed) {
		s.settleLocked()
		return false, s.retry.bus.explain(s.ctx, failed)
	}
	begun, err := s.begin()
	if err != nil {
		s.settleLocked()
		return false, err
	}
	s.current = begun
	for _, message := range s.kept {
		if begun.SendMsg(message) != nil {
			break // RecvMsg returns why
		}
	}
	if s.closed {
		_ = begun.CloseSend() // it has no error
	}
	return true, nil
}

// SendMsg implements [grpc.ClientStream].
func (s *stream) SendMsg(message any) error {
	if isNil(message) {
		return s.refuseNil()
	}
	current, kept := s.keep(message)
	err := current.SendMsg(message)
	switch {
	case err == nil, errors.Is(err, io.EOF) && kept:
		return nil // if the attempt has failed, RecvMsg returns why or retries it
	case errors.Is(err, io.EOF):
		return err
	default:
		return s.unsent(current, err)
	}
}

// unsent ends the stream, because this program could not send a message, and returns
// its error.
func (s *stream) unsent(current *streamAttempt, err error) error {
	s.mu.Lock() // mu guards s.retry
	s.settleLocked()
	failed := s.retry.failure(s.channel, current.attempt, nil, err)
	s.mu.Unlock()
	s.attemptEnded(current, err)
	err = s.retry.bus.explain(s.ctx, failed)
	s.end(err)
	return err
}

// keep keeps a message for a retry. It returns the attempt on which to send the
// message, and whether the message was kept.
func (s *stream) keep(message any) (current *streamAttempt, kept bool) {
	if s.settled.Load() {
		return s.current, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	size := maxKept
	if known, ok := message.(proto.Message); ok {
		size = proto.Size(known)
	}
	if s.overflowed || len(s.kept) > 0 && s.size+size > maxKept {
		s.overflowed, s.kept = true, nil
		return s.current, false
	}
	s.kept, s.size = append(s.kept, message), s.size+size
	return s.current, true
}

// refuseNil ends the stream, because the program sent a nil message, and returns its
// error. No handler starts without the only message of its stream.
func (s *stream) refuseNil() error {
	current := s.settle()
	current.cancel()
	outcome := atmostonce.NotSent
	if s.desc.ClientStreams {
		outcome = current.attempt.Outcome()
	}
	err := nilRequest(s.route.rpc, outcome)
	s.attemptEnded(current, err)
	s.end(err)
	return err
}

// attemptEnded notifies the observers, once for each attempt.
func (s *stream) attemptEnded(current *streamAttempt, err error) {
	if !current.ended.Swap(true) {
		s.retry.attemptEnded(s.ctx, current.attempt, current.begun, err)
	}
}

// end counts the end of the stream and notifies the observers, once.
func (s *stream) end(err error) {
	if !s.ended.Swap(true) {
		_ = s.retry.end(s.ctx, true, err)
	}
}

// now returns the current attempt.
func (s *stream) now() *streamAttempt {
	if s.settled.Load() {
		return s.current
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// settle ensures that the stream is not begun again, and returns the current attempt.
func (s *stream) settle() *streamAttempt {
	if !s.settled.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.settleLocked()
	}
	return s.current
}

// settleLocked is settle. Its caller holds s.mu.
func (s *stream) settleLocked() {
	s.kept = nil
	s.settled.Store(true)
}

// CloseSend implements [grpc.ClientStream].
func (s *stream) CloseSend() error {
	s.mu.Lock()
	s.closed = true
	current := s.current
	s.mu.Unlock()
	return current.CloseSend()
}

// Header implements [grpc.ClientStream]. Afterwards the stream is not begun again,
// because the header of one instance must not be followed by messages of another.
func (s *stream) Header() (metadata.MD, error) { return s.settle().Header() }

// Trailer implements [grpc.ClientStream].
func (s *stream) Trailer() metadata.MD { return s.now().Trailer() }

// Context implements [grpc.ClientStream].
func (s *stream) Context() context.Context { return s.now().Context() }
