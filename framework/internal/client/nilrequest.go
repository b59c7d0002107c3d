package client

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// isNil reports whether a request is nil, or a nil pointer to a message. grpc-go
// would send an empty message.
func isNil(request any) bool {
	if request == nil {
		return true
	}
	message, ok := request.(proto.Message)
	return ok && !message.ProtoReflect().IsValid()
}

// nilRequest returns the error of a call of an RPC without a request.
func nilRequest(rpc string, outcome atmostonce.Outcome) error {
	text := fmt.Sprintf("%s: the request is nil: pass a message, an empty one if there is nothing to say (%v)", rpc, outcome)
	return callerr.New(status.New(codes.InvalidArgument, text), outcome, text)
}
