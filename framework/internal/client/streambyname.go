package client

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/schema"
)

// StreamByName begins a stream by name: see framework.Bus.Stream.
func (b *Bus) StreamByName(ctx context.Context, name string, options []grpc.CallOption) (*NamedStream, error) {
	if ctx == nil {
		return nil, callerr.Invalid(name, "the context is nil: give context.Background() if there is no other")
	}
	// A stream has no timeout, so the time for its schema does not count.
	rpc, _, err := b.rpcByName(ctx, name, true, nil, options)
	if err != nil {
		return nil, b.notCalled(ctx, name, true, err)
	}
	begun, err := rpc.route.NewStream(ctx, rpc.stream, options)
	if err != nil {
		return nil, err
	}
	return &NamedStream{stream: begun, rpc: rpc, plan: rpc.plan.Limit(client.SendLimit(options, b.options.sendLimit))}, nil
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
