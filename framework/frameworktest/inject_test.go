package frameworktest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/local"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// soon calls EchoSoon, which must not run twice.
func soon(ctx context.Context, conn grpc.ClientConnInterface, opts ...grpc.CallOption) error {
	_, err := testv1.NewEchoServiceClient(conn).EchoSoon(ctx, &testv1.EchoSoonRequest{Text: "a"}, opts...)
	return err
}

func TestAFaultStrikesCallsOfEachConnection(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	bus, conn := kit.NewBus(), kit.Dial("test.echo")
	for name, call := range map[string]func() error{
		"the kit":      func() error { return soon(t.Context(), kit) },
		"another bus":  func() error { return soon(t.Context(), bus) },
		"a connection": func() error { return soon(t.Context(), conn) },
		"a call by name": func() error {
			_, err := bus.Call(t.Context(), "test.echo.echo_soon", framework.Args{"text": "a"})
			return err
		},
		"a call not awaited": func() error {
			_, err := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).EchoSoon, &testv1.EchoSoonRequest{}).Await(t.Context())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			kit.Inject("test.echo.echo_soon", frameworktest.ReplyLost())
			if err := call(); framework.OutcomeOf(err) != framework.Unknown || !errors.Is(err, framework.ErrForgotten) {
				t.Errorf("the call = %v", err)
			}
			if err := call(); err != nil {
				t.Errorf("the next call = %v", err)
			}
		})
	}
}

func TestWhenAFaultStrikes(t *testing.T) {
	t.Parallel()
	ofShop := frameworktest.If(func(attempt frameworktest.Attempt) bool {
		request, ok := attempt.Request.(*testv1.EchoSoonRequest)
		return ok && request.GetText() == "a" && attempt.RPC == "test.echo.echo_soon" && attempt.Method == testv1.EchoService_EchoSoon_FullMethodName &&
			strings.Join(attempt.Metadata.Get("caller"), "") == "shop"
	})
	for name, test := range map[string]struct {
		when []frameworktest.When
		want string // an x for each call that fails
	}{
		"the next, by default": {nil, "x....."},
		"the next":             {[]frameworktest.When{frameworktest.Next()}, "x....."},
		"each":                 {[]frameworktest.When{frameworktest.Every(1)}, "xxxxxx"},
		"each third":           {[]frameworktest.When{frameworktest.Every(3)}, "..x..x"},
		"by a function":        {[]frameworktest.When{ofShop}, ".x.x.x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kit := frameworktest.New(t, new(echo).register)
			injected := kit.Inject("/onecall.test.v1.EchoService/EchoSoon", frameworktest.RequestLost(), test.when...)
			var got strings.Builder
			for i := range len(test.want) {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "caller", []string{"other", "shop"}[i%2])
				if err := soon(ctx, kit); err != nil {
					got.WriteByte('x')
				} else {
					got.WriteByte('.')
				}
			}
			if got.String() != test.want || injected.Struck() != strings.Count(test.want, "x") {
				t.Errorf("the calls ended %q, want %q; the fault struck %d times", got.String(), test.want, injected.Struck())
			}
		})
	}
}

// TestAFaultHarmsNoOtherCall has many calls on one connection at the same time.
func TestAFaultHarmsNoOtherCall(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]frameworktest.Fault{
		"ReplyLost": frameworktest.ReplyLost(), "RequestLost": frameworktest.RequestLost(), "Slow": frameworktest.Slow(time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				service := new(echo)
				kit := frameworktest.New(t, service.register)
				kit.Inject("test.echo.echo_soon", fault, frameworktest.Every(4))
				const calls = 400
				var all sync.WaitGroup
				var mu sync.Mutex
				failed := 0
				for i := range calls {
					all.Go(func() {
						text := strings.Repeat(strconv.Itoa(i), 100)
						reply, err := testv1.NewEchoServiceClient(kit).EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: text})
						mu.Lock()
						defer mu.Unlock()
						switch {
						case err == nil && reply.GetText() != text:
							t.Errorf("call %d had the reply %.20q", i, reply.GetText())
						case err != nil && framework.OutcomeOf(err) != framework.Unknown:
							t.Errorf("call %d = %v", i, err)
						case err != nil:
							failed++
						}
					})
				}
				all.Wait()
				if failed != calls/4 {
					t.Errorf("%d calls failed, want %d", failed, calls/4)
				}
			})
		})
	}
}

// TestLargeMessagesPass has messages of more than a frame and a window, of which some are
// lost.
func TestLargeMessagesPass(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	client := testv1.NewEchoServiceClient(kit)
	text := strings.Repeat("large", 200<<10)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "large", strings.Repeat("x", 40<<10))
	for _, fault := range []frameworktest.Fault{frameworktest.ReplySettled(), frameworktest.RequestSettled(), frameworktest.Slow(time.Millisecond), frameworktest.Duplicated()} {
		for range 4 {
			kit.Inject(client.EchoSoon, fault)
			if reply, err := client.EchoSoon(ctx, &testv1.EchoSoonRequest{Text: text}); err != nil || reply.GetText() != text {
				t.Errorf("after %v a call = %.20q, %v", fault, reply.GetText(), err)
			}
		}
	}
}

func TestASlowCallIsSettledByHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := frameworktest.New(t, new(echo).register)
		kit.Inject("test.echo.echo_soon", frameworktest.Slow(time.Hour))
		late := soon(t.Context(), kit, framework.Timeout(time.Second)) // the service keeps a reply for 10 s
		reply := new(testv1.EchoSoonResponse)
		if err := kit.Bus().Settle(t.Context(), late, reply); err != nil || reply.GetText() != "a" {
			t.Errorf("Settle of %v = %v, %q", late, err, reply.GetText())
		}
	})
}

func TestALostCallCannotBeSettledByHand(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	for _, fault := range []frameworktest.Fault{frameworktest.ReplyLost(), frameworktest.RequestLost()} {
		kit.Inject("test.echo.echo_soon", fault)
		err := kit.Bus().Settle(t.Context(), soon(t.Context(), kit), nil)
		if framework.OutcomeOf(err) != framework.Unknown || !errors.Is(err, framework.ErrForgotten) {
			t.Errorf("after %v Settle = %v", fault, err)
		}
	}
}

func TestARestartForgetsWhatTheServiceHad(t *testing.T) {
	t.Parallel()
	starts := 0
	kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) {
		starts++
		new(echo).register(apis)
	})
	kit.Inject("test.echo.echo_soon", frameworktest.RestartBetween())
	if err := soon(t.Context(), kit); !errors.Is(err, framework.ErrForgotten) {
		t.Errorf("the call = %v", err)
	}
	if err := kit.Bus().Ready(eventually.Context(t), "test.echo"); err != nil {
		t.Fatal(err)
	}
	if err := soon(t.Context(), kit); err != nil || starts != 2 {
		t.Errorf("the next call = %v, and the service was registered %d times", err, starts)
	}
}

func TestAfterInstanceGoneCallsAreNotSent(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	kit.Inject("test.echo.echo_soon", frameworktest.InstanceGone())
	if err := soon(t.Context(), kit); framework.OutcomeOf(err) != framework.Unknown {
		t.Errorf("the call = %v", err)
	}
	if err := soon(t.Context(), kit); framework.OutcomeOf(err) != framework.NotSent || status.Code(err) != codes.Unavailable {
		t.Errorf("the next call = %v", err)
	}
	kit.Serve(new(echo).register)
	if err := kit.Bus().Ready(eventually.Context(t), "test.echo"); err != nil {
		t.Fatal(err)
	}
	if err := soon(t.Context(), kit); err != nil {
		t.Errorf("with another instance a call = %v", err)
	}
}

// TestAFaultWaitsForAnAttemptThatItCanStrike has a call that is not sent.
func TestAFaultWaitsForAnAttemptThatItCanStrike(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	kit.Inject("test.echo.echo_soon", frameworktest.ReplyLost())
	kit.Instances()[0].Kill()
	if err := soon(t.Context(), kit); framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("without an instance the call = %v", err)
	}
	kit.Instances()[0].Restart()
	if err := kit.Bus().Ready(eventually.Context(t), "test.echo"); err != nil {
		t.Fatal(err)
	}
	if err := soon(t.Context(), kit); framework.OutcomeOf(err) != framework.Unknown {
		t.Errorf("the next call = %v", err)
	}
}

// encrypted is gRPC's security for connections in one machine, behind a handshake of its
// own.
type encrypted struct {
	credentials.TransportCredentials
}

func (e encrypted) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if _, err := conn.Write(make([]byte, 1<<10)); err != nil {
		return nil, nil, err
	}
	return e.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

func (e encrypted) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if _, err := io.ReadFull(conn, make([]byte, 1<<10)); err != nil {
		return nil, nil, err
	}
	return e.TransportCredentials.ServerHandshake(conn)
}

func (e encrypted) Clone() credentials.TransportCredentials { return e }

func TestAFaultThatDoesNotStrikeFailsTheTest(t *testing.T) {
	t.Parallel()
	secret := []frameworktest.Option{
		frameworktest.ServeOptions(framework.ServerOptions(grpc.Creds(encrypted{local.NewCredentials()}))),
		frameworktest.BusOptions(framework.DialOptions(grpc.WithTransportCredentials(encrypted{local.NewCredentials()}))),
	}
	for name, test := range map[string]struct {
		options []frameworktest.Option
		fault   frameworktest.Fault
		calls   int
		want    string
	}{
		"no call":                      {nil, frameworktest.ReplyLost(), 0, "fault ReplyLost of test.echo.echo_soon never struck: no call of it was sent"},
		"an encrypted connection":      {secret, frameworktest.ReplyLost(), 1, "or its connection is encrypted"},
		"a copy of an encrypted call":  {secret, frameworktest.Duplicated(), 1, "or its connection is encrypted"},
		"a panic of an encrypted call": {secret, frameworktest.Panic(), 1, ""},
		"a refusal of such a call":     {secret, frameworktest.RefusedBefore(codes.NotFound), 1, ""},
		"the registry of such a call":  {secret, frameworktest.RegistryAway(), 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := failed(t, func(tb testing.TB) {
				tb.Helper()
				kit := frameworktest.New(tb, new(echo).register, test.options...)
				kit.Inject("test.echo.echo_soon", test.fault)
				for range test.calls {
					_ = soon(tb.Context(), kit)
				}
			})
			if !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
				t.Errorf("the test failed with %q, want %q", got, test.want)
			}
		})
	}
}

func TestAMistakeOfInjectFailsTheTest(t *testing.T) {
	t.Parallel()
	for want, mistake := range map[string]func(kit *frameworktest.Kit){
		"takes one When": func(kit *frameworktest.Kit) {
			kit.Inject("test.echo.echo", frameworktest.Panic(), frameworktest.Next(), frameworktest.Every(2))
		},
		"no RPC": func(kit *frameworktest.Kit) { kit.Inject("test.echo.ghost", frameworktest.Panic()) },
		"Every(0)": func(kit *frameworktest.Kit) {
			kit.Inject("test.echo.echo", frameworktest.Panic(), frameworktest.Every(0))
		},
		"RefusedBefore(OK)": func(kit *frameworktest.Kit) { kit.Inject("test.echo.echo", frameworktest.RefusedBefore(codes.OK)) },
		"no fault":          func(kit *frameworktest.Kit) { kit.Inject("test.echo.echo", frameworktest.Fault{}) },
	} {
		got := failed(t, func(tb testing.TB) {
			tb.Helper()
			mistake(frameworktest.New(tb, new(echo).register))
		})
		if !strings.Contains(got, want) {
			t.Errorf("the test failed with %q, want %q", got, want)
		}
	}
}
