package framework_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestAnAsynchronousCallIsAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := busInMemory(t, &echo{echo: func(_ context.Context, text string) (string, error) {
			time.Sleep(time.Second)
			return text, nil
		}})
		start := time.Now()
		call := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{Text: "hi"})
		if took := time.Since(start); took != 0 {
			t.Errorf("CallAsync took %v", took)
		}
		select {
		case <-call.Done():
			t.Error("the call is done before it began")
		default:
		}
		for range 2 { // Await can be called any number of times
			reply, err := call.Await(t.Context())
			if err != nil || reply.GetText() != "hi" {
				t.Errorf("Await = %v, %v", reply, err)
			}
		}
		<-call.Done()
		// The result of a call that has ended is returned even if ctx has ended too.
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := call.Await(ended); err != nil {
			t.Errorf("Await of a call that has ended = %v", err)
		}
	})
}

func TestAbandoningAwaitLeavesTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := busInMemory(t, &echo{echo: func(ctx context.Context, text string) (string, error) {
			select {
			case <-time.After(time.Second):
				return text, nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}})
		call := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{Text: "hi"})
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := call.Await(short)
		if status.Code(err) != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an abandoned Await = %v, want its context's error", err)
		}
		if reply, err := call.Await(t.Context()); err != nil || reply.GetText() != "hi" {
			t.Errorf("the call after it = %v, %v", reply, err)
		}
	})
}

func TestCancellingItsContextCancelsTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		canceled := make(chan struct{})
		bus := busInMemory(t, &echo{echo: func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			close(canceled)
			return "", ctx.Err()
		}})
		ctx, cancel := context.WithCancel(t.Context())
		call := framework.CallAsync(ctx, testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{})
		synctest.Wait()
		start := time.Now()
		cancel()
		if _, err := call.Await(t.Context()); status.Code(err) != codes.Canceled {
			t.Errorf("a cancelled call = %v, want CANCELED", err)
		}
		<-canceled
		if took := time.Since(start); took != 0 {
			t.Errorf("the handler was cancelled after %v", took)
		}
	})
}

func TestACallThatNobodyAwaitsLeavesNothing(t *testing.T) {
	t.Parallel()
	// synctest fails if a goroutine is left.
	synctest.Test(t, func(t *testing.T) {
		bus := busInMemory(t, &echo{echo: late})
		for range 100 {
			framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{})
		}
		time.Sleep(time.Minute)
	})
}
