package server

import (
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/onecall-dev/onecall/internal/inprocess"
)

// serveInProcess returns the server of calls of this process. It is nil, with a line in the
// log, if the program has options that only connections can honour.
func (s *Service) serveInProcess() *inprocess.Server {
	if s.options.Listener != nil {
		if _, ok := s.options.Listener.(*net.TCPListener); !ok {
			s.options.Log.Debug("calls of this process go over the network, because of the listener of option Listener")
			return nil
		}
	}
	made, err := inprocess.NewServer(s.server)
	if err != nil {
		s.options.Log.Debug("calls of this process go over the network", "reason", err)
		return nil
	}
	return made
}

// takeOffers returns the interceptor of streams, which takes the offers of callers in this
// process to leave the network out.
func (s *Service) takeOffers(served grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if info.FullMethod == grpc_health_v1.Health_Watch_FullMethodName {
			s.local.Take(stream.Context())
		}
		return served(srv, stream, info, handler)
	}
}

// finishCalls takes no more calls, and waits for those under way.
func (s *Service) finishCalls() {
	s.local.Close()
	s.server.GracefulStop()
	s.local.Wait()
}

// endConnections ends all connections.
func (s *Service) endConnections() {
	s.local.Stop()
	s.server.Stop()
}
