package framework_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestAHandlersContextEndsWithItsCall has handlers wait for the end of their context in each
// way that package context has, and callers that leave.
func TestAHandlersContextEndsWithItsCall(t *testing.T) {
	t.Parallel()
	waits := map[string]func(ctx context.Context){
		"done": func(ctx context.Context) { <-ctx.Done() },
		"err": func(ctx context.Context) {
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		},
		"a context that derives from it": func(ctx context.Context) {
			type key struct{}
			derived, cancel := context.WithCancel(context.WithValue(ctx, key{}, "value"))
			defer cancel()
			<-derived.Done()
		},
		"a function": func(ctx context.Context) {
			called := make(chan struct{})
			context.AfterFunc(ctx, func() { close(called) })
			<-called
		},
	}
	const short = 20 * time.Millisecond
	leaves := map[string]struct {
		timeout time.Duration // 0: the caller cancels
		code    codes.Code
	}{
		"the caller cancels":        {0, codes.Canceled},
		"the caller's timeout ends": {short, codes.DeadlineExceeded},
	}
	overEach(t, func(t *testing.T, w way) {
		t.Helper()
		for waiting, wait := range waits {
			for leaving, test := range leaves {
				t.Run(waiting+", "+leaving, func(t *testing.T) {
					t.Parallel()
					// On a busy machine the timeout may end before the call is at the handler: then
					// it is made again, with a longer one.
					const most = 100
					entered, ended := make(chan struct{}, most), make(chan error, most)
					world := newWorld(t, w, &echo{soon: func(ctx context.Context, text string) (string, error) {
						w.taken(t, ctx)
						timeout, err := time.ParseDuration(text)
						if deadline, ok := ctx.Deadline(); err != nil || !ok || timeout > 0 && time.Until(deadline) > 2*timeout {
							t.Errorf("the deadline is in %v, %v, %v", time.Until(deadline), ok, err)
						}
						entered <- struct{}{}
						wait(ctx)
						err = ctx.Err()
						if !errors.Is(context.Cause(ctx), err) {
							t.Errorf("the cause is %v, and the error %v", context.Cause(ctx), err)
						}
						ended <- err
						return text, err
					}})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					call := func(timeout time.Duration, opts ...grpc.CallOption) {
						if _, err := world.client.EchoSoon(ctx, &testv1.EchoSoonRequest{Text: timeout.String()}, opts...); status.Code(err) != test.code {
							t.Errorf("the call ended with %v", err)
						}
					}
					if test.timeout == 0 {
						go func() {
							<-entered
							cancel()
						}()
						call(0)
					}
					for timeout := test.timeout; timeout > 0 && len(entered) == 0; timeout *= 2 {
						call(timeout, framework.Timeout(timeout))
					}
					if err := <-ended; !errors.Is(err, context.Canceled) && (!errors.Is(err, context.DeadlineExceeded) || test.timeout == 0) {
						t.Errorf("the context ended with %v", err)
					}
				})
			}
		}
	})
}

// TestAHandlersContextIsKeptAfterItsCall has handlers keep their contexts, while calls that
// follow reuse what they can.
func TestAHandlersContextIsKeptAfterItsCall(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, w way) {
		t.Helper()
		kept := make(chan context.Context, 1)
		world := newWorld(t, w, &echo{soon: func(ctx context.Context, text string) (string, error) {
			kept <- ctx
			return text, nil
		}})
		type of struct {
			name string
			ctx  context.Context
		}
		var all []of
		for _, name := range []string{"a", "b", "c", "d"} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "name", name, "both", "1", "both", "2")
			if _, err := world.client.EchoSoon(ctx, &testv1.EchoSoonRequest{Text: name}); err != nil {
				t.Fatal(err)
			}
			all = append(all, of{name, <-kept})
		}
		for _, call := range all {
			<-call.ctx.Done()
			if err := call.ctx.Err(); !errors.Is(err, context.Canceled) {
				t.Errorf("the context of call %s ended with %v", call.name, err)
			}
			md, _ := metadata.FromIncomingContext(call.ctx)
			if names := md["name"]; len(names) != 1 || names[0] != call.name || len(md["both"]) != 2 || len(md[":authority"]) != 1 {
				t.Errorf("the metadata of call %s is %v", call.name, md)
			}
			for key := range md {
				if strings.HasPrefix(key, "onecall-") {
					t.Errorf("the handler has the metadata %s, which may be a secret", key)
				}
			}
			if from, ok := peer.FromContext(call.ctx); !ok || from.Addr.Network() != w.network {
				t.Errorf("the peer of call %s is %v", call.name, from)
			}
		}
	})
}

// TestAContextThatDerivesFromAHandlersHasNoGoroutine is not parallel, because it counts
// goroutines of package context.
func TestAContextThatDerivesFromAHandlersHasNoGoroutine(t *testing.T) { //nolint:paralleltest // see above
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			world := newWorld(t, w, &echo{soon: func(ctx context.Context, text string) (string, error) {
				derived, cancel := context.WithCancel(context.WithValue(ctx, t, text))
				defer cancel()
				_, cancelBoth := context.WithCancel(derived)
				defer cancelBoth()
				stacks := make([]byte, 4<<20)
				stacks = stacks[:runtime.Stack(stacks, true)]
				if strings.Contains(string(stacks), "propagateCancel.func") {
					t.Errorf("a goroutine waits for the context:\n%s", stacks)
				}
				return text, nil
			}})
			if _, err := world.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}
