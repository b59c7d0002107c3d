package main

import (
	"context"
	"sync"

	"google.golang.org/grpc/stats"
)

// sent counts the requests that gRPC has sent, by method.
type sent struct {
	changed chan struct{}

	mu     sync.Mutex // guards counts
	counts map[string]int
}

var _ stats.Handler = (*sent)(nil)

// methodKey is the context's key of a call's method.
type methodKey struct{}

func newSent() *sent { return &sent{changed: make(chan struct{}, 1), counts: make(map[string]int)} }

// TagRPC implements [stats.Handler].
func (*sent) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, info.FullMethodName)
}

// HandleRPC implements [stats.Handler].
func (s *sent) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if _, ok := event.(*stats.OutPayload); !ok {
		return
	}
	method, _ := ctx.Value(methodKey{}).(string)
	s.mu.Lock()
	s.counts[method]++
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// TagConn implements [stats.Handler].
func (*sent) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements [stats.Handler].
func (*sent) HandleConn(context.Context, stats.ConnStats) {}

// count returns how many requests of a method were sent.
func (s *sent) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[method]
}

// wait waits until that many requests of a method were sent, or the context ends.
func (s *sent) wait(ctx context.Context, method string, want int) {
	for s.count(method) < want {
		select {
		case <-s.changed:
		case <-ctx.Done():
			return
		}
	}
}
