package framework_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestTheContextOfAHandlerOutlivesItsConnection ends calls of raw clients, and looks when
// and why the contexts of their handlers end. How a handler looks at its context must not
// matter.
func TestTheContextOfAHandlerOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	const soon, echoed = testv1.EchoService_EchoSoon_FullMethodName, testv1.EchoService_Echo_FullMethodName
	lost := func(r *raw, conn func() error, _ uint32) { r.check(conn()) }
	cancelled := func(r *raw, _ func() error, stream uint32) {
		r.check(r.framer.WriteRSTStream(stream, http2.ErrCodeCancel))
	}
	for name, test := range map[string]struct {
		path    string
		timeout string // of the call, as gRPC's header has it
		end     func(r *raw, conn func() error, stream uint32)
		after   time.Duration // the call's end
		want    error
	}{
		"the connection is lost":                        {soon, "3S", lost, 2 * time.Second, context.DeadlineExceeded},
		"the connection is lost, the declared timeout":  {soon, "", lost, time.Minute - time.Second, context.DeadlineExceeded},
		"the connection is lost, no side effects":       {echoed, "3S", lost, 0, context.Canceled},
		"the caller cancels":                            {soon, "3S", cancelled, 0, context.Canceled},
		"the caller cancels, and then goes":             {soon, "3S", func(r *raw, conn func() error, stream uint32) { cancelled(r, conn, stream); lost(r, conn, stream) }, 0, context.Canceled},
		"the caller cancels a call without a deadline":  {soon, "", cancelled, 0, context.Canceled},
		"the deadline passes while all is well":         {soon, "3S", func(*raw, func() error, uint32) {}, 2 * time.Second, context.DeadlineExceeded},
		"the connection is lost after the deadline":     {soon, "1S", lost, 0, context.DeadlineExceeded},
		"the caller cancels a call with a far deadline": {soon, "1H", cancelled, 0, context.Canceled},
	} {
		for how, wait := range map[string]func(ctx context.Context) error{
			"Done": func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			},
			"Err": func(ctx context.Context) error {
				for ctx.Err() == nil {
					time.Sleep(10 * time.Millisecond) // of fake time
				}
				return ctx.Err()
			},
			"a context that derives": func(ctx context.Context) error {
				derived, cancel := context.WithCancel(ctx)
				defer cancel()
				<-derived.Done()
				return context.Cause(derived)
			},
			"a context with a timeout": func(ctx context.Context) error {
				derived, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				<-derived.Done()
				return derived.Err()
			},
			"AfterFunc": func(ctx context.Context) error {
				ended := make(chan error)
				context.AfterFunc(ctx, func() { ended <- context.Cause(ctx) })
				return <-ended
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					began := make(chan struct{})
					result := make(chan error, 1)
					handler := func(ctx context.Context, text string) (string, error) {
						close(began)
						result <- wait(ctx)
						return text, ctx.Err()
					}
					_, _, listener := inMemory(t, &echo{soon: handler, echo: handler})
					client, conn := dialRaw(t, listener)
					var headers []string
					if test.timeout != "" {
						headers = []string{"grpc-timeout", test.timeout}
					}
					stream := client.begin(test.path, headers...)
					client.send(stream, &testv1.EchoSoonRequest{})
					go func() { // or its server would wait
						for {
							if _, err := client.framer.ReadFrame(); err != nil {
								return
							}
						}
					}()
					<-began
					time.Sleep(time.Second)
					synctest.Wait()
					ended := time.Now()
					test.end(client, conn.Close, stream)
					err := <-result
					if took := time.Since(ended).Truncate(20 * time.Millisecond); took != test.after || !errors.Is(err, test.want) {
						t.Errorf("after %v the handler's context ended with %v, want %v after %v", took, err, test.want, test.after)
					}
				})
			})
		}
	}
}

// TestAShutdownWaitsForHandlersWithoutAConnection ends a service while the handler of a
// call runs whose connection was lost.
func TestAShutdownWaitsForHandlersWithoutAConnection(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		needs time.Duration // by the handler, unless its context ends
		want  error         // of the context
		took  time.Duration // by the shutdown
	}{
		"that ends":         {5 * time.Second, nil, 5 * time.Second},
		"that takes longer": {time.Minute, context.Canceled, 19 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := make(chan struct{})
				result := make(chan error, 1)
				_, running, listener := inMemory(t, &echo{soon: func(ctx context.Context, text string) (string, error) {
					close(began)
					select {
					case <-ctx.Done():
					case <-time.After(test.needs):
					}
					result <- ctx.Err()
					return text, ctx.Err()
				}}, framework.ShutdownTimeout(20*time.Second))
				client, conn := dialRaw(t, listener)
				stream := client.begin(testv1.EchoService_EchoSoon_FullMethodName)
				client.send(stream, &testv1.EchoSoonRequest{})
				<-began
				client.check(conn.Close())
				synctest.Wait()
				ended := time.Now()
				err := running.stop()
				if took := time.Since(ended); took.Round(time.Second) != test.took || (err != nil) != (test.want != nil) {
					t.Errorf("the shutdown took %v and ended with %v, want %v", took, err, test.took)
				}
				if err := <-result; !errors.Is(err, test.want) {
					t.Errorf("the handler's context ended with %v, want %v", err, test.want)
				}
			})
		})
	}
}
