package client

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/contextkey"
)

// knownVersion begins the versions of grpc-go that are known to read the metadata of a
// call's context after the pick. With any other one, which a program may build with, the
// identity is in the result of the pick. Change it when grpc-go is updated and all tests
// pass: if grpc-go read the metadata earlier, calls would be sent without an identity.
const knownVersion = "1.85."

// readsLate is whether grpc-go reads the metadata of a call's context after the pick.
var readsLate = strings.HasPrefix(grpc.Version, knownVersion)

// sending is the context with which an attempt reaches grpc-go. While the attempt is bound,
// the metadata that grpc-go reads in it has the identity. grpc-go reads it when it makes
// the stream, which is after the pick.
//
// The result of a pick can also have metadata, which grpc-go adds to that of the context.
// For that it makes two maps and a context: see [binding.Pick].
type sending struct {
	context.Context //nolint:containedctx // it is one

	attempt *Attempt

	// The attempt's lock guards these. program is the metadata of the program, nil if there
	// is none. probed is whether Pick looks up whether grpc-go will read the metadata here,
	// and stamp has the identity from the pick to its end.
	program any
	probed  bool
	stamp   *stamp
}

// sendingKey is the key under which a context has its sending.
type sendingKey struct{}

// newSending returns the innermost context of an attempt, which derives from it.
func (a *Attempt) newSending(ctx context.Context) *sending {
	a.mu.Lock()
	defer a.mu.Unlock()
	made := &a.first
	if made.attempt != nil { // an interceptor calls its invoker again
		made = new(sending)
	}
	made.Context, made.attempt = ctx, a
	return made
}

// sendingOf returns the sending of an attempt, from the context of a pick. It returns nil
// if there is none.
func sendingOf(ctx context.Context, attempt *Attempt) *sending {
	if found, _ := ctx.Value(sendingKey{}).(*sending); found != nil && found.attempt == attempt {
		return found
	}
	return nil
}

// Value implements [context.Context].
func (s *sending) Value(key any) any {
	switch key {
	case sendingKey{}:
		return s
	case attemptKey{}:
		return s.attempt
	case contextkey.Outgoing:
		if found := s.outgoing(); found != nil {
			return found
		}
	}
	return s.Context.Value(key)
}

// outgoing returns the metadata with the identity, nil while the attempt is not bound.
func (s *sending) outgoing() any {
	s.attempt.mu.Lock()
	defer s.attempt.mu.Unlock()
	switch {
	case s.probed:
		return probed{}
	case s.stamp != nil:
		s.stamp.reads++
		return s.stamp.raw
	default:
		return nil
	}
}

// probed is what a probe finds in place of metadata. To whatever else reads it meanwhile
// there is no metadata.
type probed struct{}

// isRead reports whether grpc-go will read the metadata of the context of a pick here. It
// will not if the context between has metadata of its own, such as that of a
// stats.Handler.
func (s *sending) isRead(pick context.Context) bool {
	if s == nil || !readsLate {
		return false
	}
	program := s.Context.Value(contextkey.Outgoing)
	s.probe(true, program)
	defer s.probe(false, program)
	_, found := pick.Value(contextkey.Outgoing).(probed)
	return found
}

func (s *sending) probe(on bool, program any) {
	s.attempt.mu.Lock()
	defer s.attempt.mu.Unlock()
	s.probed, s.program = on, program
}

// programOf is a sending as the context of the program's metadata, and of nothing else.
type programOf sending

// Value implements [context.Context].
func (s *programOf) Value(any) any { return s.program }

// stamp is the metadata of a pick.
type stamp struct {
	metadata metadata.MD // nil if raw has the metadata of the program too
	value    [1]string
	// raw is the metadata as grpc-go keeps it in a context.
	raw any
	// reads counts how often raw was read.
	reads int
}

var stamps = sync.Pool{New: func() any {
	s := new(stamp)
	s.metadata = metadata.MD{atmostonce.CallKey: s.value[:]}
	s.raw = metadata.NewOutgoingContext(context.Background(), s.metadata).Value(contextkey.Outgoing)
	return s
}}

// newStamp returns a stamp with the value of an identity, and the metadata of the program.
func newStamp(value string, sent *sending) *stamp {
	if sent != nil && sent.program != nil {
		joined := metadata.AppendToOutgoingContext((*programOf)(sent), atmostonce.CallKey, value)
		return &stamp{raw: joined.Value(contextkey.Outgoing)}
	}
	s, _ := stamps.Get().(*stamp)
	s.value[0] = value
	return s
}

// release releases a stamp when its pick has ended. It can be used again if only grpc-go
// has read it, which copied the values when it made the stream: what else reads may still
// do so.
func (s *stamp) release(streamed bool) {
	if s.metadata != nil && (s.reads == 0 || s.reads == 1 && streamed) {
		s.reads = 0
		stamps.Put(s)
	}
}
