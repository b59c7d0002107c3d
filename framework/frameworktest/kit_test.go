package frameworktest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestCallsOfEachShapeReachTheService(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, shape string, call shapeCall) {
		t.Helper()
		kit := frameworktest.New(t, new(echo).register)
		for _, conn := range []grpc.ClientConnInterface{kit, kit.Bus(), kit.NewBus(), kit.Dial("test.echo")} {
			got, err := call(t.Context(), testv1.NewEchoServiceClient(conn))
			same(t, shape, got, err)
		}
	})
}

func TestCallsByNameAndAsyncReachTheService(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	reply, err := kit.Bus().Call(t.Context(), "test.echo.echo_soon", framework.Args{"text": "a"})
	if err != nil || reply.Map()["text"] != "a" {
		t.Errorf("by name = %v, %v", reply, err)
	}
	call := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(kit).EchoSoon, &testv1.EchoSoonRequest{Text: "b"})
	if reply, err := call.Await(t.Context()); err != nil || reply.GetText() != "b" {
		t.Errorf("async = %v, %v", reply, err)
	}
}

// plain serves the other test API by calling the first.
type plain struct {
	testv1.UnimplementedPlainServiceServer

	echo testv1.EchoServiceClient
}

func (p *plain) Ping(ctx context.Context, req *testv1.PingRequest) (*testv1.PingResponse, error) {
	reply, err := p.echo.EchoSoon(ctx, &testv1.EchoSoonRequest{Text: req.GetText()})
	return &testv1.PingResponse{Text: reply.GetText() + "!"}, err
}

func TestServicesCallEachOther(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	kit.Serve(func(apis grpc.ServiceRegistrar) {
		testv1.RegisterPlainServiceServer(apis, &plain{echo: testv1.NewEchoServiceClient(kit)})
	})
	reply, err := testv1.NewPlainServiceClient(kit).Ping(t.Context(), &testv1.PingRequest{Text: "a"})
	if err != nil || reply.GetText() != "a!" {
		t.Errorf("Ping = %v, %v", reply, err)
	}
}

func TestSeveralInstancesShareTheCalls(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	kit.Serve(new(echo).register)
	client := testv1.NewEchoServiceClient(kit)
	served := make(map[string]bool)
	eventually.True(t, "both instances serve a call", func() bool {
		var from peer.Peer
		if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}, grpc.Peer(&from)); err != nil {
			t.Fatal(err)
		}
		served[from.Addr.String()] = true
		return len(served) == 2
	})
	for _, instance := range kit.Instances() {
		if !served[instance.Address()] {
			t.Errorf("%s served no call, the instances are %v", instance.Address(), served)
		}
	}
}

func TestTheChainIsTheRealOne(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) {
		new(echo).register(apis)
		reflection.Register(apis.(reflection.GRPCServer))
	}, frameworktest.ServeOptions(framework.Authenticate(func(ctx context.Context) (context.Context, error) {
		if len(metadata.ValueFromIncomingContext(ctx, "token")) == 0 {
			return nil, status.Error(codes.Unauthenticated, "no token")
		}
		return framework.WithPrincipal(ctx, "shop"), nil
	})), frameworktest.BusOptions(framework.Retry(framework.RetryNone)))
	client := testv1.NewEchoServiceClient(kit)
	if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a call without a token = %v", err)
	}
	if _, err := client.EchoSoon(metadata.AppendToOutgoingContext(t.Context(), "token", "x"), &testv1.EchoSoonRequest{}); err != nil {
		t.Errorf("a call with a token = %v", err)
	}
}

func TestAnInstanceStopsDiesAndReturns(t *testing.T) {
	t.Parallel()
	service := new(echo)
	kit := frameworktest.New(t, service.register)
	instance, client := kit.Instances()[0], testv1.NewEchoServiceClient(kit)
	call := func() error {
		_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		return err
	}
	instance.Kill()
	err := call()
	if _, none := errors.AsType[*framework.ConnectionError](err); !none || status.Code(err) != codes.Unavailable || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("after Kill a call = %v", err)
	}
	instance.Restart()
	if err := kit.Bus().Ready(eventually.Context(t), "test.echo"); err != nil {
		t.Fatal(err)
	}
	if err := call(); err != nil {
		t.Errorf("after Restart a call = %v", err)
	}
	instance.Kill()
	instance.Expire()
	err = call()
	if status.Code(err) != codes.Unavailable || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("after Kill and Expire a call = %v", err)
	}
	instance.Restart()
	if err := instance.Stop(); err != nil {
		t.Errorf("Stop = %v", err)
	}
	err = call()
	if _, none := errors.AsType[*discovery.NoInstanceError](err); !none {
		t.Errorf("after Stop a call = %v", err)
	}
}

func TestWhatCannotBeStartedFailsTheTest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		test func(tb testing.TB)
		want string
	}{
		"no API": {func(tb testing.TB) {
			tb.Helper()
			frameworktest.New(tb, func(grpc.ServiceRegistrar) {})
		}, "no API was registered"},
		"a bad option": {func(tb testing.TB) {
			tb.Helper()
			frameworktest.New(tb, new(echo).register, frameworktest.ServeOptions(framework.ShutdownTimeout(-1)))
		}, "option ShutdownTimeout"},
		"a bad option of the bus": {func(tb testing.TB) {
			tb.Helper()
			frameworktest.New(tb, new(echo).register, frameworktest.BusOptions(nil))
		}, "option 2 is nil"},
		"a bad name": {func(tb testing.TB) {
			tb.Helper()
			frameworktest.New(tb, new(echo).register).Dial("a b")
		}, "a b"},
		"an end": {func(tb testing.TB) {
			tb.Helper()
			frameworktest.New(tb, func(grpc.ServiceRegistrar) { tb.Fatal("my error") })
		}, "my error"},
		"an RPC that is not linked in": {func(tb testing.TB) {
			tb.Helper()
			frameworktest.New(tb, new(echo).register).Recorded("ghost.v1.Ghost/Haunt")
		}, "no RPC"},
		"another function": {func(tb testing.TB) {
			tb.Helper()
			frameworktest.New(tb, new(echo).register).Recorded(fmt.Sprint)
		}, "no method of a generated client"},
		"a client of another connection": {func(tb testing.TB) {
			tb.Helper()
			kit := frameworktest.New(tb, new(echo).register)
			kit.Recorded(testv1.NewEchoServiceClient(kit.Bus()).Echo)
		}, "no method of a generated client"},
		"no name at all": {func(tb testing.TB) {
			tb.Helper()
			frameworktest.New(tb, new(echo).register).Recorded(7)
		}, "int names no RPC"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := failed(t, test.test); !strings.Contains(got, test.want) {
				t.Errorf("the test failed with %q, want %q", got, test.want)
			}
		})
	}
}

func TestAGoroutineThatIsLeftFailsTheTest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		defer close(goOn)
		got := failed(t, func(tb testing.TB) {
			tb.Helper()
			kit := frameworktest.New(tb, (&echo{before: func(context.Context) { go leaky(goOn) }}).register)
			if _, err := testv1.NewEchoServiceClient(kit).EchoSoon(tb.Context(), &testv1.EchoSoonRequest{}); err != nil {
				tb.Error(err)
			}
		})
		if !strings.Contains(got, "leaky") || !strings.Contains(got, "still run") {
			t.Errorf("the test failed with %q, want the goroutine", got)
		}
	})
}

func leaky(until <-chan struct{}) { <-until }

// TestAHandlerThatRunsEndsWithTheTest has a handler that waits for its context. The end of
// the caller's connection does not end it, but the end of the test does.
func TestAHandlerThatRunsEndsWithTheTest(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	t.Run("", func(t *testing.T) {
		kit := frameworktest.New(t, (&echo{before: func(ctx context.Context) {
			close(began)
			<-ctx.Done()
		}}).register)
		framework.CallAsync(context.Background(), testv1.NewEchoServiceClient(kit).EchoSoon, &testv1.EchoSoonRequest{}, framework.Timeout(eventually.Limit))
		<-began
	})
}

func TestAThousandKitsLeaveNothingBehind(t *testing.T) {
	kit := func() {
		got := failed(t, func(tb testing.TB) {
			tb.Helper()
			kit := frameworktest.New(tb, new(echo).register)
			if _, err := testv1.NewEchoServiceClient(kit).EchoSoon(tb.Context(), &testv1.EchoSoonRequest{}); err != nil {
				tb.Error(err)
			}
		})
		if got != "" {
			t.Error(got)
		}
	}
	kit() // what a process makes once
	goroutines, heap := runtime.NumGoroutine(), inUse()
	const kits, atOnce = 1000, 4
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for range kits / atOnce {
				kit()
			}
		})
	}
	all.Wait()
	eventually.True(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
	const each = 256 // bytes
	eventually.True(t, "the memory is free", func() bool { return inUse() < heap+kits*each })
}

// inUse returns how many bytes of the heap are in use.
func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// BenchmarkNew measures the start of a kit with its bus connected, and its end.
func BenchmarkNew(b *testing.B) {
	for _, whole := range []bool{false, true} {
		b.Run(map[bool]string{false: "start", true: "start and end"}[whole], func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				test := &failing{TB: b}
				b.StartTimer()
				frameworktest.New(test, new(echo).register)
				if !whole {
					b.StopTimer()
				}
				test.end()
				b.StartTimer()
			}
		})
	}
}
