package server

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// errStopping is the error of a call of an API on a connection that was made during a
// shutdown. A call with an identity is refused before it, so that it is retried elsewhere.
var errStopping = status.Error(codes.Unavailable, "the instance shuts down: call another one")

// answerLast starts a server for connections that are made during a shutdown: grpc-go
// accepts none while its calls finish. It answers callers that ask what became of their
// calls. The returned function ends it, and first waits for answers under way, until ctx
// ends.
func (s *Service) answerLast() (end func(ctx context.Context)) {
	var listeners []net.Listener
	for _, from := range s.listeners() {
		if listener := from.second(); listener != nil {
			listeners = append(listeners, listener)
		}
	}
	if len(listeners) == 0 {
		return func(context.Context) {}
	}
	watching, stopWatching := context.WithCancel(context.Background())
	served := func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(watching, cancel)()
		return s.chain.served(srv, lastStream{stream, ctx}, info, handler)
	}
	refuse := func(any, grpc.ServerStream) error { return errStopping }
	last := grpc.NewServer(append(s.chain.options(s.options, served), grpc.NumStreamWorkers(0), grpc.UnknownServiceHandler(refuse))...)
	last.RegisterService(s.chain.settling(), nil)
	last.RegisterService(s.chain.builtin(&grpc_health_v1.Health_ServiceDesc), s.health)
	var serving sync.WaitGroup
	for _, listener := range listeners {
		serving.Go(func() { _ = last.Serve(listener) }) // its error is that of the listener, which ends with the service
	}
	return func(ctx context.Context) {
		stopWatching()
		select {
		case <-background(last.GracefulStop):
		case <-ctx.Done():
		}
		last.Stop()
		serving.Wait()
	}
}

// lastStream is a stream of the server of answerLast. No shutdown ends or waits for it.
type lastStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // the stream's own, which Context returns
}

// Context implements [grpc.ServerStream].
func (s lastStream) Context() context.Context { return s.ctx }
