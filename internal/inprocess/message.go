package inprocess

import (
	"reflect"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// payload is an encoded message. The zero value is an empty one.
type payload struct {
	// buffer is of grpc-go's pool, nil if there is none. Otherwise slice has the message.
	buffer *[]byte
	slice  mem.BufferSlice
}

// size returns the number of bytes.
func (p payload) size() int {
	if p.buffer != nil {
		return len(*p.buffer)
	}
	return p.slice.Len()
}

// free frees the message, which must not be used any more.
func (p payload) free() {
	if p.buffer != nil {
		mem.DefaultBufferPool().Put(p.buffer)
	}
	p.slice.Free()
}

// codecOfGRPC is the package of grpc-go's codec for protobuf, in whose place a program can
// register its own.
const codecOfGRPC = "google.golang.org/grpc/encoding/proto"

// isOfGRPC reports whether a codec is grpc-go's own. That of grpc-go makes a new buffer for
// each small message, so its messages are encoded without it.
func isOfGRPC(codec encoding.CodecV2) bool {
	of := reflect.TypeOf(codec)
	return of.Kind() == reflect.Pointer && of.Elem().PkgPath() == codecOfGRPC
}

// encode encodes a message as grpc-go does.
func (s *Server) encode(message any) (payload, error) {
	if message == nil { // as grpc-go: a handler without a reply sends an empty one
		return payload{}, nil
	}
	data, err := s.marshal(message)
	if err != nil {
		return payload{}, status.Errorf(codes.Internal, "grpc: error while marshaling: %v", err.Error())
	}
	return data, nil
}

func (s *Server) marshal(message any) (payload, error) {
	if direct, ok := message.(proto.Message); ok && s.plainCodec {
		return marshalPooled(direct)
	}
	slice, err := s.codec.Marshal(message)
	return payload{slice: slice}, err
}

// marshalPooled encodes a message into a buffer of grpc-go's pool.
func marshalPooled(message proto.Message) (payload, error) {
	size := proto.Size(message)
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(max(size, 1)) // for 0 it may clear a large one
	data, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend((*buffer)[:0], message)
	if err != nil {
		pool.Put(buffer)
		return payload{}, err
	}
	*buffer = data
	return payload{buffer: buffer}, nil
}

// decode decodes a message that arrived, and frees it. limit is how many bytes it may have.
func (s *Server) decode(data payload, limit int, message any) error {
	defer data.free()
	if size := data.size(); size > limit {
		return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", size, limit)
	}
	if err := s.unmarshal(data, message); err != nil {
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}

func (s *Server) unmarshal(data payload, message any) error {
	if data.buffer == nil {
		return s.codec.Unmarshal(data.slice, message)
	}
	if direct, ok := message.(proto.Message); ok {
		return proto.Unmarshal(*data.buffer, direct)
	}
	return s.codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(*data.buffer)}, message)
}

// tooLarge returns the error of a message that is sent and is larger than a limit.
func tooLarge(size, limit int) error {
	return status.Errorf(codes.ResourceExhausted, "trying to send message larger than max (%d vs. %d)", size, limit)
}

func marshal(message proto.Message) ([]byte, error) { return proto.Marshal(message) }
