package framework_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// The tests of this file show over each way what other tests show with peers that only a
// connection has.

// expired returns the error of an instance that no longer has a session.
func expired(t *testing.T) error {
	t.Helper()
	st, err := status.New(codes.FailedPrecondition, "no").WithDetails(&errdetails.ErrorInfo{Reason: "SESSION_EXPIRED", Domain: atmostonce.Domain})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

// TestOnlyRefusedCallsAreRetriedOverEachWay has an interceptor refuse calls before their
// handler, and a handler return the same errors.
func TestOnlyRefusedCallsAreRetriedOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		var arrived atomic.Int64
		var refuse, fail error
		registry := memory.New()
		service := start(t, registry, &echo{soon: func(ctx context.Context, text string) (string, error) {
			over.taken(t, ctx)
			return text, fail
		}}, framework.AfterAdmission(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			arrived.Add(1)
			if refuse != nil {
				return nil, refuse
			}
			return handler(ctx, req)
		}, func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, stream)
		}))
		bus := newBusOf(t, registry, over.bus...)
		ready(t, bus, "test.echo")
		client := testv1.NewEchoServiceClient(bus)
		calls := func(calls int, attempts int64, outcome framework.Outcome) {
			t.Helper()
			arrived.Store(0)
			for range calls {
				if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); framework.OutcomeOf(err) != outcome {
					t.Errorf("the call = %v, %v, want %v", err, framework.OutcomeOf(err), outcome)
				}
			}
			if got := arrived.Load(); got != attempts {
				t.Errorf("%d calls made %d attempts, want %d", calls, got, attempts)
			}
		}
		for _, fail = range []error{status.Error(codes.ResourceExhausted, "full"), status.Error(codes.FailedPrecondition, "not now"), expired(t)} {
			calls(1, 1, framework.Executed)
		}
		if got := service.Stats().Sessions; got != 1 {
			t.Errorf("a bus has %d sessions", got)
		}
		refuse = status.Error(codes.ResourceExhausted, "full")
		calls(1, 4, framework.Refused)
		calls(100, 107, framework.Refused) // a bus begins with the tokens of ten retries
	})
}

// TestNoInterceptorOfACallerRunsACallTwiceOverEachWay retries inside of a bus and around it.
func TestNoInterceptorOfACallerRunsACallTwiceOverEachWay(t *testing.T) {
	t.Parallel()
	again := retry.UnaryClientInterceptor(retry.WithMax(5), retry.WithBackoff(retry.BackoffLinear(time.Millisecond)), retry.WithCodes(codes.Unavailable))
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		var runs atomic.Int64
		w := newWorld(t, over, countingRuns(&runs, status.Error(codes.Unavailable, "busy")), framework.DialOptions(grpc.WithChainUnaryInterceptor(again)))
		_, err := w.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		if err == nil || runs.Load() != 1 {
			t.Errorf("with retries inside of the bus the handler ran %d times, and the call = %v", runs.Load(), err)
		}
		runs.Store(0)
		w = newWorld(t, over, countingRuns(&runs, status.Error(codes.Unavailable, "busy")))
		_, err = testv1.NewEchoServiceClient(retried{w.bus, again}).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		if status.Code(err) != codes.FailedPrecondition || runs.Load() != 1 {
			t.Errorf("with retries around the bus the handler ran %d times, and the call = %v", runs.Load(), err)
		}
	})
}

// TestACallThatReturnedIsNotMadeOverEachWay has an interceptor go on with a call after it
// returned.
func TestACallThatReturnedIsNotMadeOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		var runs atomic.Int64
		returned, left := make(chan struct{}), make(chan error)
		w := newWorld(t, over, countingRuns(&runs, nil), intercepted(func(ctx context.Context, _ *grpc.ClientConn, goOn func(context.Context) error) error {
			go func() {
				<-returned
				left <- goOn(context.WithoutCancel(ctx))
			}()
			return status.Error(codes.Unknown, "the breaker is open")
		}))
		_, unary := w.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		_, stream := w.client.Watch(t.Context(), &testv1.WatchRequest{})
		close(returned)
		for _, err := range []error{unary, stream} {
			if later := <-left; later == nil || framework.OutcomeOf(err) != framework.NotSent {
				t.Errorf("the call = %v, and what was left behind ended with %v", err, later)
			}
		}
		if runs.Load() != 0 {
			t.Errorf("handlers ran %d times", runs.Load())
		}
	})
}

// TestACallerCannotForgeAnIdentityOverEachWay adds reserved metadata outside of a bus and in
// its chain.
func TestACallerCannotForgeAnIdentityOverEachWay(t *testing.T) {
	t.Parallel()
	forged := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, atmostonce.CallKey, "forged", atmostonce.Prefix+"other", "x")
	}
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		w := newWorld(t, over, &echo{}, framework.Admission(framework.AdmissionConfig{RequireIdentity: true}),
			intercepted(func(ctx context.Context, _ *grpc.ClientConn, goOn func(context.Context) error) error {
				return goOn(forged(ctx))
			}))
		if _, err := w.client.EchoSoon(forged(t.Context()), &testv1.EchoSoonRequest{}); err != nil {
			t.Errorf("a call = %v", err)
		}
		stream, err := w.client.Watch(forged(t.Context()), &testv1.WatchRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("a stream = %v", err)
		}
	})
}

// TestEachEndOfACallMakesRoomOverEachWay has an instance that runs one call or stream at once.
func TestEachEndOfACallMakesRoomOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		entered := make(chan struct{})
		var streams atomic.Int64
		w := newWorld(t, over, &echo{
			soon: func(context.Context, string) (string, error) { return "", status.Error(codes.NotFound, "own") },
			watch: func(stream testv1.EchoService_WatchServer) error {
				if streams.Add(1) == 1 {
					close(entered)
					<-stream.Context().Done()
				}
				return nil
			},
		}, framework.MaxInFlight(1, "test.echo"))
		for range 3 {
			if _, err := w.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); status.Code(err) != codes.NotFound {
				t.Fatalf("a call = %v, want the handler's error", err)
			}
		}
		if _, err := w.client.Watch(t.Context(), &testv1.WatchRequest{}); err != nil {
			t.Fatal(err)
		}
		<-entered
		stream, err := w.client.Watch(t.Context(), &testv1.WatchRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.ResourceExhausted || framework.OutcomeOf(err) != framework.Refused {
			t.Errorf("a second stream = %v", err)
		}
	})
}

// TestAdmissionIsInItsPlaceOverEachWay has calls refused before they are admitted, and by it.
func TestAdmissionIsInItsPlaceOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry := memory.New()
		service := start(t, registry, &echo{}, framework.Authorize(framework.Policy{"test.echo": {"ann"}}),
			framework.Authenticate(func(ctx context.Context) (context.Context, error) {
				if name := metadata.ValueFromIncomingContext(ctx, "token"); len(name) == 1 {
					return framework.WithPrincipal(ctx, name[0]), nil
				}
				return nil, status.Error(codes.Unauthenticated, "who?")
			}))
		bus := newBusOf(t, registry, over.bus...)
		ready(t, bus, "test.echo", "onecall.test.v1.PlainService")
		if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("without a token: %v", err)
		}
		if got := service.Stats().Sessions; got != 0 {
			t.Errorf("a caller who was not authenticated has %d sessions", got)
		}
		ann := metadata.AppendToOutgoingContext(t.Context(), "token", "ann")
		if _, err := testv1.NewPlainServiceClient(bus).Ping(ann, &testv1.PingRequest{}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("a call that the policy does not name = %v", err)
		}
		if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(ann, &testv1.EchoSoonRequest{}); err != nil {
			t.Errorf("a call that the policy allows = %v", err)
		}
	})
}

// TestAHandlersContextEndsWithItsCallerOverEachWay cancels a call that has time left.
func TestAHandlersContextEndsWithItsCallerOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		entered, ended := make(chan struct{}), make(chan error)
		w := newWorld(t, over, &echo{soon: func(ctx context.Context, text string) (string, error) {
			close(entered)
			<-ctx.Done()
			ended <- ctx.Err()
			return text, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		call := framework.CallAsync(ctx, w.client.EchoSoon, &testv1.EchoSoonRequest{}, framework.Timeout(20*time.Second))
		<-entered
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler's context ended with %v", err)
		}
		if _, err := call.Await(t.Context()); err == nil {
			t.Error("the call succeeded")
		}
	})
}

// TestAMethodWithoutAdmissionIsNotServedOverEachWay registers a method that calls no
// interceptor. Its first call has run when that is seen.
func TestAMethodWithoutAdmissionIsNotServedOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		var runs atomic.Int64
		registry := memory.New()
		serveAny(t, registry, func(apis grpc.ServiceRegistrar) {
			apis.RegisterService(without(func() error { runs.Add(1); return nil }), &echo{})
		})
		bus := newBusOf(t, registry, over.bus...)
		ready(t, bus, "test.echo")
		client := testv1.NewEchoServiceClient(bus)
		for _, want := range []framework.Outcome{framework.Executed, framework.Refused} {
			_, err := client.Echo(t.Context(), &testv1.EchoRequest{})
			if status.Code(err) != codes.Internal || framework.OutcomeOf(err) != want || runs.Load() != 1 {
				t.Errorf("the call = %v (%v), and the method ran %d times", err, framework.OutcomeOf(err), runs.Load())
			}
		}
	})
}

// TestARequestThatIsRefusedIsToldSoOverEachWay sends a field that a strict service does not
// have, on a stream of which the method gets the request first.
func TestARequestThatIsRefusedIsToldSoOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		var runs atomic.Int64
		w := newWorld(t, over, countingRuns(&runs, nil), framework.StrictSchema())
		request := new(testv1.WatchRequest)
		request.ProtoReflect().SetUnknown([]byte{0x98, 0x3f, 1})
		stream, err := w.client.Watch(t.Context(), request)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.Refused || runs.Load() != 0 {
			t.Errorf("the stream = %v (%v), and the handler ran %d times", err, framework.OutcomeOf(err), runs.Load())
		}
	})
}

// TestACallThatWasCutOffIsNotMadeElsewhereOverEachWay stops an instance during a call, beside
// another that would refuse it.
func TestACallThatWasCutOffIsNotMadeElsewhereOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry := memory.New()
		entered, leave := make(chan struct{}, 2), make(chan struct{})
		t.Cleanup(func() { close(leave) })
		hold := func(_ context.Context, text string) (string, error) {
			entered <- struct{}{}
			<-leave
			return text, nil
		}
		service, err := framework.Start(context.Background(), registry, (&echo{echo: hold, soon: hold}).register, quiet, framework.ShutdownTimeout(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		bus := newBusOf(t, registry, over.bus...)
		ready(t, bus, "test.echo")
		client := testv1.NewEchoServiceClient(bus)
		soon := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{})
		may := framework.CallAsync(t.Context(), client.Echo, &testv1.EchoRequest{}) // NO_SIDE_EFFECTS
		<-entered
		<-entered
		var refused atomic.Int64
		start(t, registry, &echo{}, framework.AfterAdmission(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			refused.Add(1)
			return nil, status.Error(codes.PermissionDenied, "refused")
		}, func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, stream)
		}))
		if err := service.Stop(t.Context()); err == nil {
			t.Error("Stop returned no error, want that calls were cut off")
		}
		if _, err := soon.Await(t.Context()); framework.OutcomeOf(err) != framework.Unknown {
			t.Errorf("a call that was cut off = %v (%v)", err, framework.OutcomeOf(err))
		}
		if _, err := may.Await(t.Context()); framework.OutcomeOf(err) != framework.Unknown {
			t.Errorf("a call that may repeat = %v (%v)", err, framework.OutcomeOf(err))
		}
		if got := refused.Load(); got != 1 {
			t.Errorf("%d calls were made elsewhere, want the one that may repeat", got)
		}
		if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); framework.OutcomeOf(err) != framework.Refused {
			t.Errorf("a call elsewhere = %v (%v)", err, framework.OutcomeOf(err))
		}
	})
}
