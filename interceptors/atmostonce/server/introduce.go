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

// introduce sets the header of a call of the health service that says which
// instance speaks. A caller opens such a call on each of its connections before
// it uses it, so it binds its calls to the instance at the other end, whatever
// the registry says of the address.
func (s *Server) introduce(ctx context.Context, path string) {
	if strings.HasPrefix(path, healthPrefix) {
		// It fails when the stream is over, and then there is no reply either.
		_ = grpc.SetHeader(ctx, metadata.Pairs(atmostonce.IncarnationKey, s.incarnation))
	}
}

// UnknownMethod is a handler for [grpc.UnknownServiceHandler]: it ends calls of
// services and methods that the server does not have with UNIMPLEMENTED. With
// [Server.StreamServerInterceptor] the error of an identified call says that the
// call was refused, so that its caller may make it at another instance.
func (*Server) UnknownMethod(_ any, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	return &unknownMethodError{path: path}
}

// unknownMethodError is of a call whose method the server does not have. The
// type is not exported, so no handler can return one.
type unknownMethodError struct{ path string }

// Error implements error.
func (e *unknownMethodError) Error() string { return e.GRPCStatus().Message() }

// GRPCStatus implements what grpc-go reads a status of.
func (e *unknownMethodError) GRPCStatus() *status.Status {
	return status.New(codes.Unimplemented, fmt.Sprintf("the instance has no method %.200q: it is older or newer than the caller's .proto, or serves another API: build both from the same .proto", e.path))
}

// neverBegan reports whether err says that there was no handler to begin.
func neverBegan(err error) bool {
	_, unknown := errors.AsType[*unknownMethodError](err)
	return unknown
}
