package client

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/schema"
)

// StreamByName begins a stream by name. first are the parameters of its first request, nil
// if the program sends it later: see framework.Bus.Stream.
func (b *Bus) StreamByName(ctx context.Context, name string, first map[string]any, options []grpc.CallOption) (*NamedStream, error) {
	if ctx == nil {
		return nil, callerr.Invalid(name, "the context is nil: give context.Background() if there is no other")
	}
	// A stream has no timeout, so the time for its schema does not count.
	rpc, _, err := b.rpcByName(ctx, name, true, nil, options)
	if err != nil {
		return nil, b.notCalled(ctx, name, true, err)
	}
	stream := &NamedStream{rpc: rpc, plan: rpc.plan.Limit(client.SendLimit(options, b.options.sendLimit))}
	var request proto.Message
	if first != nil {
		if request, err = stream.plan.Encode(first); err != nil {
			return nil, b.notCalled(ctx, name, true, misuseError(err))
		}
	}
	if stream.stream, err = rpc.route.NewStream(ctx, rpc.stream, options); err != nil || request == nil {
		return stream, err
	}
	if err := stream.stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !rpc.stream.ClientStreams {
		err := stream.CloseSend()
		return stream, err
	}
	return stream, nil // after io.EOF Recv returns why
}

// NamedStream is a stream that was begun by name.
type NamedStream struct {
	stream grpc.ClientStream
	rpc    *byNameRPC
	plan   *encode.Plan
}

// Send sends a request with these parameters.
func (s *NamedStream) Send(parameters map[string]any) error {
	request, err := s.plan.Encode(parameters)
	if err != nil {
		return err
	}
	return s.stream.SendMsg(request)
}

// CloseSend says that no more requests follow.
func (s *NamedStream) CloseSend() error { return s.stream.CloseSend() }

// Recv returns the next reply and the types for it, and io.EOF after the last.
func (s *NamedStream) Recv() (proto.Message, schema.Types, error) {
	reply := s.rpc.newReply()
	if err := s.stream.RecvMsg(reply); err != nil {
		return nil, nil, err
	}
	return reply, s.rpc.types, nil
}
