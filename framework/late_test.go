package framework_test

import (
	"context"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// lateEnv is how many calls TestCallsThatWaitForAStreamAreNotTakenForCopies makes at
// once. The default is a number that works with the race detector.
const lateEnv = "ONECALL_TEST_CALLS_AT_ONCE"

// TestCallsThatWaitForAStreamAreNotTakenForCopies makes far more calls than the server
// allows streams, and as many as the width of a server's window: grpc-go lets new calls
// overtake waiting calls.
func TestCallsThatWaitForAStreamAreNotTakenForCopies(t *testing.T) {
	t.Parallel()
	callers, each := 4000, 4
	if value := os.Getenv(lateEnv); value != "" {
		var err error
		if callers, err = strconv.Atoi(value); err != nil {
			t.Fatal(err)
		}
		each = 1
	}
	var runs atomic.Int64
	bus, _, _ := inMemory(t, countingRuns(&runs, nil), framework.ServerOptions(grpc.MaxConcurrentStreams(50)))
	client := testv1.NewEchoServiceClient(bus)
	var (
		all    sync.WaitGroup
		failed atomic.Int64
		sample atomic.Pointer[error]
	)
	ctx := context.WithoutCancel(t.Context())
	forever := framework.Timeout(time.Hour) // a call waits for all earlier calls
	for range callers {
		all.Go(func() {
			for range each {
				if _, err := client.EchoSoon(ctx, &testv1.EchoSoonRequest{}, forever); err != nil {
					failed.Add(1)
					sample.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		t.Errorf("of %d calls %d failed, one of them with: %v", callers*each, failed.Load(), *sample.Load())
	}
	if runs.Load() != int64(callers*each) {
		t.Errorf("%d calls ran %d times", callers*each, runs.Load())
	}
}
