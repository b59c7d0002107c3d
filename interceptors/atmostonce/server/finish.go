package server

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// finish records what became of a call that ends, unless it was not marked. keeps is
// whether its reply or error may be kept. returned is false after a panic or
// runtime.Goexit.
func (s *Server) finish(call *serverCall, keeps bool, reply any, err error, returned bool) {
	phase := call.phase.Swap(finished)
	if phase == arrived || phase == finished {
		return
	}
	became := fateFailed
	switch outcome := call.end(); {
	case outcome == "":
		became = fateUnknown
	case returned && err == nil: // if the handler did not start, an interceptor replied in its place
		became = fateOK
	case outcome == atmostonce.OutcomeRefused && phase == accepted:
		became = fateUnknown
	case outcome == atmostonce.OutcomeRefused:
		became = fateRefused
	}
	if phase != accepted { // the ledger, if there is one, has its key
		s.record(call, became, err)
	}
	if phase == foreign {
		return
	}
	end := s.endOf(call, became, keeps, reply, err)
	if end != nil && !s.sessions.reserve(end) {
		end = nil
	}
	s.sessions.end(&call.marked, became, end)
}

// endOf returns what to keep of the end of a call besides its fate, or nil.
func (s *Server) endOf(call *serverCall, became fate, keeps bool, reply any, err error) *kept {
	if became == fateUnknown {
		return nil
	}
	lost := call.Context.Err() != nil || call.marked.isAwaited()
	if !lost && (became == fateRefused || became == fateOK && !keeps) {
		return nil
	}
	limit := s.sessions.keeping.limit(lost)
	var data []byte
	if message, ok := reply.(proto.Message); ok && keeps && became == fateOK {
		data = marshal(message, limit)
	}
	if became == fateFailed {
		data = marshal(statusOf(err, keeps), limit)
	}
	if data == nil && !lost {
		return nil
	}
	return &kept{lost: lost, data: data}
}

// marshal returns a message in its serialized form, or nil if that is longer than a
// limit or not possible. gRPC serializes the message once more: it does not let go of
// the bytes that it sends.
func marshal(message proto.Message, limit int) []byte {
	if message == nil {
		return nil
	}
	size := proto.Size(message)
	if size > limit {
		return nil
	}
	data, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(make([]byte, 0, size), message)
	if err != nil {
		return nil
	}
	return data
}

// statusOf returns the status that gRPC sends for an error: all of it, or its code
// alone. It returns nil if a handler returned no error, but ended its goroutine.
func statusOf(err error, whole bool) proto.Message {
	if err == nil {
		return nil
	}
	if !whole {
		return status.New(sentCode(err), "").Proto()
	}
	sent, ok := status.FromError(err)
	if !ok {
		sent = status.FromContextError(err)
	}
	return sent.Proto()
}

// sentCode returns the code that gRPC sends for an error of a handler. If a handler ended
// its goroutine, there is no error, and gRPC sends nothing.
func sentCode(err error) codes.Code {
	if err == nil {
		return codes.Unknown
	}
	if sent, ok := status.FromError(err); ok {
		return sent.Code()
	}
	return status.FromContextError(err).Code()
}
