package client

import (
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// epoch is when the tests begin.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// refuse returns the error of a server's refusal.
func refuse(tb testing.TB, reason atmostonce.Reason) error {
	tb.Helper()
	refusal, err := status.New(codes.FailedPrecondition, "refused").WithDetails(&errdetails.ErrorInfo{Reason: string(reason), Domain: atmostonce.Domain})
	if err != nil {
		tb.Fatal(err)
	}
	return refusal.Err()
}
