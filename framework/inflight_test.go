package framework_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// busy serves calls and streams that run until release is closed.
func busy() (e *echo, release chan struct{}) {
	release = make(chan struct{})
	return &echo{
		echo: func(context.Context, string) (string, error) {
			<-release
			return "", nil
		},
		watch: func(stream testv1.EchoService_WatchServer) error {
			if err := stream.Send(&testv1.WatchResponse{}); err != nil {
				return err
			}
			<-release
			return nil
		},
	}, release
}

func TestACallAboveTheLimitOfItsAPIIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 3
		service, release := busy()
		bus := busInMemory(t, service, framework.MaxInFlight(most, "test.echo"))
		client := testv1.NewEchoServiceClient(bus)
		var running sync.WaitGroup
		for range most - 1 {
			running.Go(func() {
				if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
					t.Errorf("a call within the limit = %v", err)
				}
			})
		}
		stream := watch(t, bus)
		synctest.Wait()
		for name, call := range map[string]func() error{
			"a call of an RPC that runs": func() error { _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); return err },
			"a call of another RPC":      func() error { _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); return err },
			"an asynchronous call": func() error {
				_, err := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{}).Await(t.Context())
				return err
			},
			"a call by name": func() error {
				_, err := bus.Call(t.Context(), "test.echo.echo_soon", framework.Args{"text": "named"})
				return err
			},
			"a stream": func() error {
				stream, err := client.Watch(t.Context(), &testv1.WatchRequest{})
				if err == nil {
					_, err = stream.Recv()
				}
				return err
			},
			"a stream of the caller": func() error {
				stream, err := client.Collect(t.Context())
				if err == nil {
					_, err = stream.CloseAndRecv()
				}
				return err
			},
		} {
			err := call()
			if status.Code(err) != codes.ResourceExhausted || framework.OutcomeOf(err) != framework.Refused {
				t.Errorf("%s above the limit = %v (%v), want RESOURCE_EXHAUSTED, refused", name, err, framework.OutcomeOf(err))
			}
		}
		if _, err := testv1.NewPlainServiceClient(bus).Ping(t.Context(), &testv1.PingRequest{}); err != nil {
			t.Errorf("a call of another API = %v", err)
		}
		close(release)
		running.Wait()
		if _, err := stream.Recv(); err == nil {
			t.Error("the stream goes on")
		}
		synctest.Wait()
		for range 2 * most {
			if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
				t.Errorf("a call after the others have ended = %v", err)
			}
		}
	})
}

// TestEachEndOfACallMakesRoomForAnother ends calls in each way in which a call can end, many
// more than may run at the same time.
func TestEachEndOfACallMakesRoomForAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var client testv1.EchoServiceClient
		bus := busInMemory(t, &echo{
			soon: func(_ context.Context, text string) (string, error) {
				if text == "panic" {
					panic(text)
				}
				return text, status.Error(codes.Aborted, text)
			},
			echo:  func(ctx context.Context, _ string) (string, error) { <-ctx.Done(); return "", ctx.Err() },
			watch: func(testv1.EchoService_WatchServer) error { panic("stream") },
		}, framework.MaxInFlight(1))
		client = testv1.NewEchoServiceClient(bus)
		for range 5 {
			for name, call := range map[string]func(context.Context) error{
				"an error": func(ctx context.Context) error {
					_, err := client.EchoSoon(ctx, &testv1.EchoSoonRequest{Text: "error"})
					return err
				},
				"a panic": func(ctx context.Context) error {
					_, err := client.EchoSoon(ctx, &testv1.EchoSoonRequest{Text: "panic"})
					return err
				},
				"a deadline": func(ctx context.Context) error {
					_, err := client.Echo(ctx, &testv1.EchoRequest{})
					return err
				},
				"a canceled call": func(ctx context.Context) error {
					ctx, cancel := context.WithCancel(ctx)
					defer cancel()
					call := framework.CallAsync(ctx, client.Echo, &testv1.EchoRequest{})
					synctest.Wait()
					cancel()
					_, err := call.Await(t.Context())
					return err
				},
				"a panic of a stream": func(ctx context.Context) error {
					stream, err := client.Watch(ctx, &testv1.WatchRequest{})
					if err == nil {
						_, err = stream.Recv()
					}
					return err
				},
			} {
				if err := call(t.Context()); status.Code(err) == codes.ResourceExhausted || err == nil {
					t.Errorf("%s = %v", name, err)
				}
				synctest.Wait()
			}
		}
	})
}

// TestAShedCallRunsAtAnotherInstance has one instance that sheds all calls, and one that
// sheds none.
func TestAShedCallRunsAtAnotherInstance(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	full, release := busy()
	defer close(release)
	service, err := framework.Start(t.Context(), registry, full.register, quiet, framework.MaxInFlight(1))
	if err != nil {
		t.Fatal(err)
	}
	bus := newBus(t, registry)
	watch(t, bus)
	serve(t, registry, &echo{})
	serving(t, registry, 2)
	client := testv1.NewEchoServiceClient(bus)
	const calls = 200
	shed := 0
	for range calls {
		if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			shed++ // both of its attempts may have gone to the full instance
		}
	}
	if stats := service.Stats(); stats.Shed["test.echo"] == 0 || shed > calls/10 {
		t.Errorf("%d of %d calls failed, and the full instance shed %d, want few failures and some that were shed", shed, calls, stats.Shed["test.echo"])
	}
}

// TestFewCallsThatWereShedAreRetried has an instance that sheds all calls of one API.
func TestFewCallsThatWereShedAreRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var shed atomic.Int64
		full := false
		bus := busInMemory(t, &echo{}, framework.AfterAdmission(
			func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				if full && info.FullMethod == testv1.EchoService_EchoSoon_FullMethodName {
					shed.Add(1)
					return nil, status.Error(codes.ResourceExhausted, "full")
				}
				return handler(ctx, req)
			}, func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				return handler(srv, stream)
			}))
		client := testv1.NewEchoServiceClient(bus)
		call := func(calls int) {
			for range calls {
				_, _ = client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
			}
		}
		for _, step := range []struct {
			replies         int
			calls, attempts int64
		}{
			{calls: 100, attempts: 110}, // a bus begins with the tokens of ten retries
			{replies: 19, calls: 100, attempts: 101},
			{replies: 1, calls: 100, attempts: 101},
			{replies: 2000, calls: 100, attempts: 200}, // there are never more than the tokens of a hundred
			{replies: 0, calls: 100, attempts: 100},
		} {
			full = false
			call(step.replies)
			full = true
			shed.Store(0)
			call(int(step.calls))
			if got := shed.Load(); got != step.attempts {
				t.Errorf("after %d replies %d calls made %d attempts, want %d", step.replies, step.calls, got, step.attempts)
			}
		}
	})
}

func TestMaxInFlightNamesAPIsOfTheService(t *testing.T) {
	t.Parallel()
	for want, option := range map[string]framework.ServeOption{
		"option MaxInFlight: 0 is not more than zero":                   framework.MaxInFlight(0),
		`option MaxInFlight: the service has no API of the name "nope"`: framework.MaxInFlight(1, "nope"),
		`its APIs are ["test.echo" "onecall.test.v1.PlainService"]`:     framework.MaxInFlight(1, "test.echo", "nope"),
	} {
		err := startFails(t, option)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Serve = %v, want %q", err, want)
		}
	}
}

// TestNoMoreCallsRunThanMay makes many calls at the same time.
func TestNoMoreCallsRunThanMay(t *testing.T) {
	t.Parallel()
	const most, callers, calls = 10, 100, 20
	var mu sync.Mutex
	running, highest, ran := 0, 0, 0
	registry := memory.New()
	serve(t, registry, &echo{soon: func(context.Context, string) (string, error) {
		mu.Lock()
		running++
		ran++
		highest = max(highest, running)
		mu.Unlock()
		defer func() {
			mu.Lock()
			running--
			mu.Unlock()
		}()
		return "", nil
	}}, framework.MaxInFlight(most))
	bus := newBus(t, registry, framework.Retry(framework.RetryNone))
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	var all sync.WaitGroup
	var good sync.Map
	for caller := range callers {
		all.Go(func() {
			count := 0
			for range calls {
				_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
				if err == nil {
					count++
				} else if framework.OutcomeOf(err) != framework.Refused {
					t.Errorf("a call = %v (%v)", err, framework.OutcomeOf(err))
				}
			}
			good.Store(caller, count)
		})
	}
	all.Wait()
	succeeded := 0
	good.Range(func(_, count any) bool { succeeded += count.(int); return true })
	if highest > most || succeeded != ran {
		t.Errorf("%d handlers ran at once, want %d at most; %d ran and %d calls had a reply", highest, most, ran, succeeded)
	}
}

// TestAShedCallNeverRuns asks what became of a call that was shed, and sends a copy of it
// when there is room.
func TestAShedCallNeverRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full, release := busy()
		full.soon = func(context.Context, string) (string, error) {
			t.Error("the handler of the shed call ran")
			return "", nil
		}
		bus, running, listener := inMemory(t, full, framework.MaxInFlight(1))
		watch(t, bus)
		identity := atmostonce.Identity{Incarnation: serving(t, running.registry, 1)[0].Incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1}.Value()
		ctx := metadata.AppendToOutgoingContext(t.Context(), atmostonce.CallKey, identity)
		plain := plainClient(t, listener)
		var trailer metadata.MD
		_, err := testv1.NewEchoServiceClient(plain).EchoSoon(ctx, &testv1.EchoSoonRequest{}, grpc.Trailer(&trailer))
		if status.Code(err) != codes.ResourceExhausted || !slices.Equal(trailer.Get(atmostonce.OutcomeKey), []string{"refused"}) {
			t.Errorf("the call = %v with %v, want that it was refused", err, trailer)
		}
		answer, err := onecallv1.NewCallsClient(plain).Settle(ctx, &onecallv1.SettleRequest{Call: identity, Method: testv1.EchoService_EchoSoon_FullMethodName})
		if err != nil || answer.GetState() != onecallv1.SettleResponse_STATE_REFUSED {
			t.Errorf("the call was settled as %v, %v, want refused", answer, err)
		}
		close(release)
		synctest.Wait()
		if _, err := testv1.NewEchoServiceClient(plain).EchoSoon(ctx, &testv1.EchoSoonRequest{}); atmostonce.ReasonOf(err) != atmostonce.DuplicateCall {
			t.Errorf("a copy of the shed call = %v, want DUPLICATE_CALL", err)
		}
	})
}

// TestAnOverloadedServiceServesWhatItCan has a service that serves 20 calls at once, and a
// thousand callers, which wait for up to a second after a refusal.
func TestAnOverloadedServiceServesWhatItCan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most, callers, work, length = 20, 1000, 50 * time.Millisecond, 2 * time.Second
		bus := busInMemory(t, &echo{echo: func(context.Context, string) (string, error) {
			time.Sleep(work)
			return "", nil
		}}, framework.MaxInFlight(most))
		client := testv1.NewEchoServiceClient(bus)
		var all sync.WaitGroup
		var mu sync.Mutex // guards the variables below
		good := 0
		var refusals []time.Duration
		end := time.Now().Add(length)
		for range callers {
			all.Go(func() {
				for time.Now().Before(end) {
					began := time.Now()
					_, err := client.Echo(t.Context(), &testv1.EchoRequest{})
					took := time.Since(began)
					mu.Lock()
					switch {
					case err == nil && time.Now().Before(end):
						good++
					case err != nil && framework.OutcomeOf(err) == framework.Refused:
						refusals = append(refusals, took)
					case err != nil:
						t.Error(err)
					}
					mu.Unlock()
					if err != nil {
						time.Sleep(rand.N(time.Second))
					}
				}
			})
		}
		all.Wait()
		slices.Sort(refusals)
		if capacity := most * int(length/work); good < capacity*8/10 || len(refusals) < callers {
			t.Errorf("%d calls were served of %d that can be, and %d refused", good, capacity, len(refusals))
		}
		if slowest := refusals[len(refusals)*9/10]; slowest >= work {
			t.Errorf("one in ten refusals took more than %v, a call takes %v", slowest, work)
		}
	})
}
