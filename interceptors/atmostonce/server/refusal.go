package server

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// codeOf returns the gRPC code of a refusal. It is one that proxies do not retry: a
// malformed identity is the call's own fault, the rest depends on the server's
// state.
func codeOf(reason atmostonce.Reason) codes.Code {
	if reason == atmostonce.MalformedIdentity {
		return codes.InvalidArgument
	}
	return codes.FailedPrecondition
}

// refuse is the error of a refusal.
func refuse(reason atmostonce.Reason, message string) error {
	refusal := status.New(codeOf(reason), message)
	detailed, err := refusal.WithDetails(&errdetails.ErrorInfo{Reason: string(reason), Domain: atmostonce.Domain})
	if err != nil { // the detail cannot be encoded: it always can
		return refusal.Err()
	}
	return detailed.Err()
}
