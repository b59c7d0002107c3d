package framework_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/faulty/peer"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// callEvents returns the events of calls, attempts and retries at a bus, without their
// durations and addresses. Each attempt except the last has an address.
func callEvents(t *testing.T, r *recorder) (all []framework.Event) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, each := range r.events {
		switch event := each.event.(type) {
		case framework.CallEnded:
			event.Duration = 0
			all = append(all, event)
		case framework.AttemptEnded:
			if event.Address == "" || event.Incarnation.IsZero() || event.Duration <= 0 {
				t.Errorf("an attempt was observed as %+v", event)
			}
			event.Duration, event.Address, event.Incarnation = 0, "", discovery.Incarnation{}
			all = append(all, event)
		case framework.Retrying:
			all = append(all, event)
		}
	}
	return all
}

// TestCallsOfABusAreObserved makes instances refuse a call that is retried once.
func TestCallsOfABusAreObserved(t *testing.T) {
	t.Parallel()
	drained := refusal(codes.FailedPrecondition, string(atmostonce.Draining), atmostonce.OutcomeRefused)
	for name, test := range map[string]struct {
		call   func(*framework.Bus) error
		rpc    string
		stream bool
	}{
		"a unary call": {func(bus *framework.Bus) error {
			_, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
			return err
		}, "test.echo.echo_soon", false},
		"a call by name": {func(bus *framework.Bus) error {
			_, err := bus.Call(t.Context(), "test.echo.echo_soon", framework.Args{"text": ""})
			return err
		}, "test.echo.echo_soon", false},
		"a stream": {func(bus *framework.Bus) error {
			stream, err := testv1.NewEchoServiceClient(bus).Collect(t.Context())
			if err == nil {
				_, err = stream.CloseAndRecv()
			}
			return err
		}, "test.echo.collect", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			var turns atomic.Int64
			scripted(t, registry, func(request peer.Request) []peer.Step {
				if turns.Add(1) == 1 {
					return drained(request)
				}
				return good(request)
			})
			events := new(recorder)
			bus := newBus(t, registry, framework.Observe(events))
			if err := test.call(bus); err != nil {
				t.Fatal(err)
			}
			want := []framework.Event{
				framework.AttemptEnded{RPC: test.rpc, Number: 1, Outcome: framework.Refused, Code: codes.FailedPrecondition, Reason: atmostonce.Draining},
				framework.Retrying{RPC: test.rpc, Number: 2, Outcome: framework.Refused, Code: codes.FailedPrecondition, Reason: atmostonce.Draining},
				framework.AttemptEnded{RPC: test.rpc, Number: 2, Outcome: framework.Executed},
				framework.CallEnded{RPC: test.rpc, Stream: test.stream, Outcome: framework.Executed, Attempts: 2},
			}
			if got := callEvents(t, events); !slices.Equal(got, want) {
				t.Errorf("the events are\n%+v, want\n%+v", got, want)
			}
			stats := bus.Stats()
			if got := stats.APIs["test.echo"]; got != (framework.APIStats{Calls: 1, Retries: 1}) || stats.RetryTokens != 100 {
				t.Errorf("the counters are %+v", stats)
			}
		})
	}
}

// TestACallThatIsNotSentIsObserved makes calls with mistakes of the program.
func TestACallThatIsNotSentIsObserved(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		call  func(*framework.Bus) error
		event framework.CallEnded
	}{
		"a request that is nil": {
			func(bus *framework.Bus) error {
				_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), nil)
				return err
			},
			framework.CallEnded{RPC: "test.echo.echo"},
		},
		"a path that is none": {
			func(bus *framework.Bus) error {
				return bus.Invoke(t.Context(), "nowhere", &testv1.EchoRequest{}, &testv1.EchoResponse{})
			},
			framework.CallEnded{RPC: "nowhere"},
		},
		"a name that is none": {
			func(bus *framework.Bus) error {
				_, err := bus.Call(t.Context(), "nowhere")
				return err
			},
			framework.CallEnded{RPC: "nowhere"},
		},
		"parameters that are wrong": {
			func(bus *framework.Bus) error {
				_, err := bus.Call(t.Context(), "test.echo.echo", framework.Args{"txt": "x"})
				return err
			},
			framework.CallEnded{RPC: "test.echo.echo"},
		},
		"a stream with a timeout": {
			func(bus *framework.Bus) error {
				_, err := testv1.NewEchoServiceClient(bus).Chat(t.Context(), framework.Timeout(time.Second))
				return err
			},
			framework.CallEnded{RPC: "test.echo.chat", Stream: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := new(recorder)
			if err := test.call(newBus(t, memory.New(), framework.Observe(events))); err == nil {
				t.Fatal("the call succeeded")
			}
			test.event.Outcome, test.event.Code = framework.NotSent, codes.InvalidArgument
			if got := callEvents(t, events); !slices.Equal(got, []framework.Event{test.event}) {
				t.Errorf("the events are %+v, want %+v", got, test.event)
			}
		})
	}
}

// TestTheEndOfAStreamIsObservedOnce receives again after the last message.
func TestTheEndOfAStreamIsObservedOnce(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	events := new(recorder)
	bus := newBus(t, registry, framework.Observe(events))
	ready(t, bus, "test.echo")
	stream, err := testv1.NewEchoServiceClient(bus).Watch(t.Context(), &testv1.WatchRequest{Count: 2})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if ended := observed[framework.CallEnded](events); len(ended) != 0 {
		t.Errorf("before its end the stream was observed as %+v", ended)
	}
	for range 2 {
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	want := []framework.Event{
		framework.AttemptEnded{RPC: "test.echo.watch", Number: 1, Outcome: framework.Executed},
		framework.CallEnded{RPC: "test.echo.watch", Stream: true, Outcome: framework.Executed, Attempts: 1},
	}
	if got := callEvents(t, events); !slices.Equal(got, want) {
		t.Errorf("the events are\n%+v, want\n%+v", got, want)
	}
}

func TestOutagesOfABusAreObserved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry, events := memory.New(), new(recorder)
		bus := newBus(t, registry, framework.Observe(events), nowhere)
		calling := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, grpc.WaitForReady(true), framework.Timeout(time.Hour))
		for range 2 {
			time.Sleep(time.Minute) // longer than what vanished is kept
			if stats := bus.Stats(); stats.APIs["test.echo"].Unavailable == nil {
				t.Errorf("in an outage the counters are %+v", stats)
			}
			registration := discoverytest.Register(t, registry, discovery.Instance{API: "test.echo", Address: "10.0.0.1:443"})
			synctest.Wait()
			if stats := bus.Stats(); stats.APIs["test.echo"].Unavailable != nil {
				t.Errorf("with an instance the counters are %+v", stats)
			}
			discoverytest.Close(t, registration)
		}
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
		if _, err := calling.Await(t.Context()); err == nil {
			t.Error("the call succeeded")
		}
		began, ended := observed[framework.OutageBegan](events), observed[framework.OutageEnded](events)
		if len(began) < 2 || len(ended) != 2 || ended[0] != (framework.OutageEnded{API: "test.echo", Duration: time.Minute}) {
			t.Fatalf("the outages were observed as %+v and %+v", began, ended)
		}
		if _, unknown := errors.AsType[*discovery.UnknownAPIError](began[0].Cause); !unknown || began[0].API != "test.echo" {
			t.Errorf("the first outage was observed as %+v", began[0])
		}
	})
}

// TestWithoutObserversACallAllocatesNothingMore compares the allocations of a bus without
// an observer and a bus with one.
func TestWithoutObserversACallAllocatesNothingMore(t *testing.T) {
	// Not parallel: it counts allocations.
	registry := memory.New()
	serve(t, registry, &echo{})
	observing, plain := newBus(t, registry, framework.Observe(new(countingObserver))), newBus(t, registry)
	allocations := func(bus *framework.Bus) float64 {
		ready(t, bus, "test.echo")
		client, request := testv1.NewEchoServiceClient(bus), &testv1.EchoRequest{}
		return testing.AllocsPerRun(500, func() {
			if _, err := client.Echo(t.Context(), request); err != nil {
				t.Error(err)
			}
		})
	}
	if with, without := allocations(observing), allocations(plain); without > with-1 {
		t.Errorf("a call allocates %v times without an observer and %v times with one", without, with)
	}
}

// countingObserver is an observer that counts events.
type countingObserver struct{ events atomic.Int64 }

func (c *countingObserver) Observe(context.Context, framework.Event) { c.events.Add(1) }
