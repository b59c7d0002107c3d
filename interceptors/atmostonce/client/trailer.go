package client

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// parseTrailer returns the outcome that the trailer of an error reply says, and whether
// the instance that the call was bound to sent it. Otherwise the outcome is Unknown.
func parseTrailer(trailer metadata.MD, bound discovery.Incarnation) (outcome atmostonce.Outcome, fromBound bool) {
	says, from := trailer[atmostonce.OutcomeKey], trailer[atmostonce.IncarnationKey]
	if len(from) != 1 || bound.IsZero() || from[0] != bound.String() {
		return atmostonce.Unknown, false
	}
	if len(says) != 1 {
		return atmostonce.Unknown, len(says) == 0
	}
	switch says[0] {
	case atmostonce.OutcomeRefused:
		return atmostonce.Refused, true
	case atmostonce.OutcomeExecuted:
		return atmostonce.Executed, true
	default:
		return atmostonce.Unknown, true
	}
}

// answered reports whether the error of a call is the status of a reply. It is if it
// arrived in a trailer: even a reply that is only a status has the content type
// there. It also is if its code is one that gRPC libraries never generate
// (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
func answered(info balancer.DoneInfo) bool {
	if !info.BytesReceived && len(info.Trailer) == 0 {
		return false
	}
	switch status.Code(info.Err) {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.DataLoss:
		return true
	default:
		return len(info.Trailer) > 0
	}
}
