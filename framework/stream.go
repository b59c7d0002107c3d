package framework

import (
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// newStream begins a stream.
func (r *route) newStream(ctx context.Context, desc *grpc.StreamDesc, opts []grpc.CallOption) (grpc.ClientStream, error) {
	if timeout.HasOption(opts) {
		return nil, invalid(r.rpc, "it is a stream, which option Timeout does not bound: set a deadline on its context")
	}
	ch, bus := r.client.withTimeouts, r.client.api.bus
	retry := retry{bus: bus, route: r}
	for {
		before := ch.availability.now()
		attempt := ch.calls.NewAttempt(ctx, r.path)
		begun, err := r.begin(attempt, ch, desc, opts)
		if err == nil {
			return &stream{ClientStream: begun, retry: retry, channel: ch, attempt: attempt}, nil
		}
		failed := retry.failure(ch, attempt, before, err)
		if !retry.wait(ctx, attempt, failed) {
			return nil, bus.explain(ctx, failed)
		}
	}
}

// begin begins a stream whose messages are held to their rules.
func (r *route) begin(attempt *client.Attempt, ch *channel, desc *grpc.StreamDesc, opts []grpc.CallOption) (grpc.ClientStream, error) {
	defer attempt.End()
	if !r.rules.Checks() {
		return ch.NewStream(attempt, desc, r.path, opts...)
	}
	ctx, cancel := context.WithCancel(attempt)
	opts = append(slices.Clip(opts), grpc.OnFinish(func(error) { cancel() }))
	begun, err := ch.NewStream(ctx, desc, r.path, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	return r.rules.ClientStream(begun, cancel), nil
}

// stream is a stream whose errors say whether its handler started.
type stream struct {
	grpc.ClientStream

	retry   retry // how it came to be begun
	channel *channel
	attempt *client.Attempt
}

// RecvMsg implements [grpc.ClientStream].
func (s *stream) RecvMsg(message any) error { return s.asError(s.ClientStream.RecvMsg(message)) }

// SendMsg implements [grpc.ClientStream].
func (s *stream) SendMsg(message any) error { return s.asError(s.ClientStream.SendMsg(message)) }

// asError returns an error in words; io.EOF is no error.
func (s *stream) asError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return s.retry.bus.explain(s.attempt.Context, s.retry.failure(s.channel, s.attempt, nil, err))
}
