package client

import (
	"errors"
	"io"
	"math"
	"strings"

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
	if !s.desc.ClientStreams && s.attempt.unwritable(message, s.opts, err) {
		s.attempt.unwritten()
	}
	return err
}

// unwritable reports whether the call ended with err because its only request cannot be
// sent: it cannot be encoded, such as a string that is not UTF-8, or it is larger than
// the options let it be. Then only headers were sent, and no handler starts without
// its request. grpc-go has no error of its own for that, so unwritable encodes the
// request once more.
func (a *Attempt) unwritable(request any, opts []grpc.CallOption, err error) bool {
	switch status.Code(err) {
	case codes.Internal:
		_, wrong := encode(request, opts)
		return wrong != nil
	case codes.ResourceExhausted:
		// A reply that is too large has the same code, and a compressed request may be
		// small enough: the text excludes both.
		if a.Answered(err) || !strings.HasPrefix(status.Convert(err).Message(), "trying to send message larger than max") {
			return false
		}
		size, wrong := encode(request, opts)
		return wrong == nil && size > SendLimit(opts, math.MaxInt32) // which is grpc-go's default
	default:
		return false
	}
}

// SendLimit returns the size in bytes of the largest message that a call may send with
// its options. If they do not set it, SendLimit returns otherwise.
func SendLimit(opts []grpc.CallOption, otherwise int) int {
	for _, opt := range opts { // the last one counts
		if limit, ok := opt.(grpc.MaxSendMsgSizeCallOption); ok {
			otherwise = limit.MaxSendMsgSize
		}
	}
	return otherwise
}

// encode encodes a request as grpc-go does, and returns its size or why that failed.
func encode(request any, opts []grpc.CallOption) (size int, err error) {
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
		size = data.Len()
		data.Free()
		return size, err
	case old != nil:
		data, err := old.Marshal(request)
		return len(data), err
	default:
		return 0, nil // another reason
	}
}
