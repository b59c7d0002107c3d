package observe

import (
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// statuses are gRPC's names of its codes.
var statuses = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// Statuses is how many codes gRPC has.
const Statuses = len(statuses)

// KnownCode returns the code, or codes.Unknown if gRPC does not know it, so that handlers
// cannot make new values of metrics.
func KnownCode(code codes.Code) codes.Code {
	if int(code) < Statuses {
		return code
	}
	return codes.Unknown
}

// StatusName returns gRPC's name of a code in metrics, traces and logs, such as
// "DEADLINE_EXCEEDED".
func StatusName(code codes.Code) string { return statuses[KnownCode(code)] }

// serverErrors are the codes that are a service's own errors.
var serverErrors = []codes.Code{codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss}

// ServerError reports whether a code is an error of the service and not of its caller, as
// OpenTelemetry's semantic conventions have it.
func ServerError(code codes.Code) bool { return slices.Contains(serverErrors, KnownCode(code)) }

// OutcomeName returns the name of an outcome in metrics, traces and logs: "unknown",
// "not_sent", "refused" or "executed".
func OutcomeName(outcome atmostonce.Outcome) string {
	switch outcome {
	case atmostonce.NotSent:
		return "not_sent"
	case atmostonce.Refused:
		return "refused"
	case atmostonce.Executed:
		return "executed"
	default:
		return "unknown"
	}
}
