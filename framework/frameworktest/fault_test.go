package frameworktest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// result is how a call must end. The zero value is a call that succeeds.
type result struct {
	code    codes.Code
	outcome framework.Outcome // Executed of a call that succeeds
	// runs is how often the handler must have run, forgotten whether nothing can be learned
	// of the call any more.
	runs      int64
	forgotten bool
	took      time.Duration // at least
}

var succeeds = result{outcome: framework.Executed, runs: 1}

// faults are all faults, and what each must produce for an RPC that must not run twice, for
// one that may, and for streams.
var faults = map[string]struct {
	fault                  frameworktest.Fault
	once, repeats, streams result
}{
	"ReplyLost": {
		frameworktest.ReplyLost(),
		result{code: codes.Unavailable, outcome: framework.Unknown, runs: 1, forgotten: true},
		result{outcome: framework.Executed, runs: 2},
		result{code: codes.Unavailable, outcome: framework.Unknown, runs: 1},
	},
	"ReplySettled": {
		frameworktest.ReplySettled(), succeeds,
		result{outcome: framework.Executed, runs: 2},
		result{code: codes.Unavailable, outcome: framework.Unknown, runs: 1},
	},
	"RequestLost": {
		frameworktest.RequestLost(),
		result{code: codes.Unavailable, outcome: framework.Unknown, forgotten: true},
		succeeds,
		result{code: codes.Unavailable, outcome: framework.Unknown},
	},
	"RequestSettled": {
		frameworktest.RequestSettled(), succeeds, succeeds,
		result{code: codes.Unavailable, outcome: framework.Unknown},
	},
	"RefusedBefore a cause of the call": {
		frameworktest.RefusedBefore(codes.PermissionDenied),
		result{code: codes.PermissionDenied, outcome: framework.Refused},
		result{code: codes.PermissionDenied, outcome: framework.Refused},
		result{code: codes.PermissionDenied, outcome: framework.Refused},
	},
	"RefusedBefore a cause of the instance": {frameworktest.RefusedBefore(codes.ResourceExhausted), succeeds, succeeds, succeeds},
	"Slow": {
		frameworktest.Slow(200 * time.Millisecond),
		result{outcome: framework.Executed, runs: 1, took: 200 * time.Millisecond},
		result{outcome: framework.Executed, runs: 1, took: 200 * time.Millisecond},
		result{outcome: framework.Executed, runs: 1, took: 200 * time.Millisecond},
	},
	"Slow beyond the deadline": {
		frameworktest.Slow(time.Hour),
		result{code: codes.DeadlineExceeded, outcome: framework.Unknown, runs: 1},
		result{code: codes.DeadlineExceeded, outcome: framework.Unknown, runs: 1},
		result{code: codes.DeadlineExceeded, outcome: framework.Unknown, runs: 1},
	},
	"Frozen": {
		frameworktest.Frozen(200 * time.Millisecond),
		result{outcome: framework.Executed, runs: 1, took: 200 * time.Millisecond},
		result{outcome: framework.Executed, runs: 1, took: 200 * time.Millisecond},
		result{outcome: framework.Executed, runs: 1, took: 200 * time.Millisecond},
	},
	"Frozen beyond the deadline": {
		frameworktest.Frozen(time.Hour),
		result{code: codes.DeadlineExceeded, outcome: framework.Unknown},
		result{code: codes.DeadlineExceeded, outcome: framework.Unknown},
		result{code: codes.DeadlineExceeded, outcome: framework.Unknown},
	},
	"RestartBetween": {
		frameworktest.RestartBetween(),
		result{code: codes.Unavailable, outcome: framework.Unknown, runs: 1, forgotten: true},
		result{outcome: framework.Executed, runs: 2},
		result{code: codes.Unavailable, outcome: framework.Unknown, runs: 1},
	},
	"InstanceGone": {
		frameworktest.InstanceGone(),
		result{code: codes.Unavailable, outcome: framework.Unknown, forgotten: true},
		result{code: codes.Unavailable, outcome: framework.Unknown},
		result{code: codes.Unavailable, outcome: framework.Unknown},
	},
	"Draining":     {frameworktest.Draining(), succeeds, succeeds, succeeds},
	"Duplicated":   {frameworktest.Duplicated(), succeeds, succeeds, succeeds},
	"RegistryAway": {frameworktest.RegistryAway(), succeeds, succeeds, succeeds},
	"Panic": {
		frameworktest.Panic(),
		result{code: codes.Internal, outcome: framework.Executed},
		result{code: codes.Internal, outcome: framework.Executed},
		result{code: codes.Internal, outcome: framework.Executed},
	},
}

// TestEachFaultProducesItsOutcome runs in fake time: there the limits of calls take none.
func TestEachFaultProducesItsOutcome(t *testing.T) {
	t.Parallel()
	for name, test := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for shape, call := range shapes {
				t.Run(shape, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						service := new(echo)
						kit := frameworktest.New(t, service.register)
						client := testv1.NewEchoServiceClient(kit)
						injected := kit.Inject("/onecall.test.v1.EchoService/"+shape, test.fault)
						ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
						defer cancel()
						began := time.Now()
						got, err := call(ctx, client)
						took := time.Since(began)
						want := map[string]result{"EchoSoon": test.once, "Echo": test.repeats}[shape]
						if shape != "EchoSoon" && shape != "Echo" {
							want = test.streams
						}
						if want.code == codes.OK {
							same(t, shape, got, err)
						}
						if status.Code(err) != want.code || framework.OutcomeOf(err) != want.outcome || errors.Is(err, framework.ErrForgotten) != want.forgotten || service.runs.Load() != want.runs {
							t.Errorf("%v, and %d runs; want %+v", err, service.runs.Load(), want)
						}
						if took < want.took || took >= time.Minute {
							t.Errorf("the call took %v, want %v", took, want.took)
						}
						if injected.Struck() != 1 {
							t.Errorf("the fault struck %d times", injected.Struck())
						}
					})
				})
			}
		})
	}
}
