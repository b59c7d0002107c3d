package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// healthPrefix begins the paths of gRPC's health service.
const healthPrefix = "/grpc.health.v1.Health/"

// introduce sets the header that names the instance and says for whose calls it answers,
// on a call of the health service. A caller opens such a call on each connection before it uses the
// connection. So it binds its calls to the instance at the other end, whatever the
// registry has for the address.
func (s *Server) introduce(ctx context.Context, path string) {
	if strings.HasPrefix(path, healthPrefix) {
		// It fails only when the stream has ended, and then there is no reply.
		header := metadata.Pairs(atmostonce.IncarnationKey, s.incarnation)
		if s.ledger != nil {
			header.Set(atmostonce.SettlesKey, atmostonce.SettlesAny)
		}
		_ = grpc.SetHeader(ctx, header)
	}
}

// UnknownMethod is a handler for [grpc.UnknownServiceHandler]. It ends calls of
// services and methods that the server does not have with UNIMPLEMENTED. With
// [Server.StreamServerInterceptor], the error of an identified call says that the
// call was refused, so that its caller may retry it at another instance.
func (*Server) UnknownMethod(_ any, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	return &unknownMethodError{path: path}
}

// unknownMethodError is the error of a call whose method the server does not have.
// The type is not exported, so no handler can return one.
type unknownMethodError struct{ path string }

// Error implements error.
func (e *unknownMethodError) Error() string { return e.GRPCStatus().Message() }

// GRPCStatus returns the status, for [status.FromError].
func (e *unknownMethodError) GRPCStatus() *status.Status {
	return status.New(codes.Unimplemented, fmt.Sprintf("the instance has no method %.200q: it is older or newer than the caller's .proto, or serves another API: build both from the same .proto", e.path))
}

// isUnknownMethod reports whether err says that there is no handler.
func isUnknownMethod(err error) bool {
	_, unknown := errors.AsType[*unknownMethodError](err)
	return unknown
}
