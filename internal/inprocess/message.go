package inprocess

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// encode encodes a message as grpc-go does.
func (s *Server) encode(message any) (mem.BufferSlice, error) {
	if message == nil { // as grpc-go: a handler without a reply sends an empty one
		return nil, nil
	}
	data, err := s.codec.Marshal(message)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "grpc: error while marshaling: %v", err.Error())
	}
	return data, nil
}

// decode decodes a message that arrived, and frees it. limit is how many bytes it may have.
func (s *Server) decode(data mem.BufferSlice, limit int, message any) error {
	defer data.Free()
	if size := data.Len(); size > limit {
		return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", size, limit)
	}
	if err := s.codec.Unmarshal(data, message); err != nil {
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}

// tooLarge returns the error of a message that is sent and is larger than a limit.
func tooLarge(size, limit int) error {
	return status.Errorf(codes.ResourceExhausted, "trying to send message larger than max (%d vs. %d)", size, limit)
}

func marshal(message proto.Message) ([]byte, error) { return proto.Marshal(message) }
