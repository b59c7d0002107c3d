package client

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// callerStream notes in the attempt what becomes of a stream's messages. Its header
// and trailer have no reserved keys.
type callerStream struct {
	grpc.ClientStream

	attempt *Attempt
	desc    *grpc.StreamDesc
	opts    []grpc.CallOption
}

// Header implements [grpc.ClientStream].
func (s *callerStream) Header() (metadata.MD, error) {
	header, err := s.ClientStream.Header()
	return atmostonce.WithoutReserved(header), err
}

// Trailer implements [grpc.ClientStream].
func (s *callerStream) Trailer() metadata.MD {
	return atmostonce.WithoutReserved(s.ClientStream.Trailer())
}

// RecvMsg implements [grpc.ClientStream].
func (s *callerStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	switch {
	case err == nil:
		s.attempt.received()
	case !errors.Is(err, io.EOF):
		s.attempt.failed(err)
	}
	if err != nil || !s.desc.ServerStreams { // from now on the program may read its options' header and trailer
		hideReserved(s.opts)
	}
	return err
}

// SendMsg implements [grpc.ClientStream].
func (s *callerStream) SendMsg(message any) error {
	err := s.ClientStream.SendMsg(message)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	s.attempt.failed(err)
	if !s.desc.ClientStreams && unwritable(message, s.opts, err) {
		s.attempt.unwritten()
	}
	return err
}

// unwritable reports whether a call ended with err because its only request cannot be
// encoded, such as a string that is not UTF-8. Then only headers were sent, and no
// handler starts without its request. grpc-go has no error of its own for that, so
// unwritable encodes the request once more.
func unwritable(request any, opts []grpc.CallOption, err error) bool {
	return status.Code(err) == codes.Internal && encode(request, opts) != nil
}

// encode encodes a request as grpc-go does, and returns why that failed.
func encode(request any, opts []grpc.CallOption) error {
	subtype := proto.Name
	var codec encoding.CodecV2
	var old interface{ Marshal(v any) ([]byte, error) }
	for _, opt := range opts { // the last one counts
		switch opt := opt.(type) {
		case grpc.ContentSubtypeCallOption:
			subtype = opt.ContentSubtype
		case grpc.ForceCodecV2CallOption:
			codec, old = opt.CodecV2, nil
		case grpc.ForceCodecCallOption:
			codec, old = nil, opt.Codec
		case grpc.CustomCodecCallOption:
			codec, old = nil, opt.Codec
		}
	}
	if codec == nil && old == nil {
		if codec = encoding.GetCodecV2(subtype); codec == nil {
			if registered := encoding.GetCodec(subtype); registered != nil {
				old = registered
			}
		}
	}
	switch {
	case codec != nil:
		data, err := codec.Marshal(request)
		data.Free()
		return err
	case old != nil:
		_, err := old.Marshal(request)
		return err
	default:
		return nil // another reason
	}
}
