package framework_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// obedient handlers run until their context ends.
func obedient(ctx context.Context, _ string) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// late handlers end after their context, so that the caller's own timer is first.
func late(ctx context.Context, _ string) (string, error) {
	<-ctx.Done()
	time.Sleep(time.Millisecond) // of fake time
	return "", ctx.Err()
}

func TestAUnaryCallEndsByTheEarliestOfItsLimits(t *testing.T) {
	t.Parallel()
	viaEcho := func(ctx context.Context, bus grpc.ClientConnInterface, opts ...grpc.CallOption) error {
		_, err := testv1.NewEchoServiceClient(bus).Echo(ctx, &testv1.EchoRequest{}, opts...)
		return err
	}
	soon := func(ctx context.Context, bus grpc.ClientConnInterface, opts ...grpc.CallOption) error {
		_, err := testv1.NewEchoServiceClient(bus).EchoSoon(ctx, &testv1.EchoSoonRequest{}, opts...)
		return err
	}
	ping := func(ctx context.Context, bus grpc.ClientConnInterface, opts ...grpc.CallOption) error {
		_, err := testv1.NewPlainServiceClient(bus).Ping(ctx, &testv1.PingRequest{}, opts...)
		return err
	}
	async := func(ctx context.Context, bus grpc.ClientConnInterface, opts ...grpc.CallOption) error {
		call := framework.CallAsync(ctx, testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, opts...)
		_, err := call.Await(context.Background())
		return err
	}
	for name, test := range map[string]struct {
		call   func(context.Context, grpc.ClientConnInterface, ...grpc.CallOption) error
		opts   []grpc.CallOption
		own    time.Duration // the caller's own deadline; 0 is none
		after  time.Duration
		source timeout.Source
		says   string
	}{
		"the default":       {ping, nil, 0, 5 * time.Second, timeout.FromDefault, "onecall.test.v1.PlainService.ping: no reply from 10.0.0.1:443 within 5s, the default timeout"},
		"the API's":         {viaEcho, nil, 0, 2 * time.Minute, timeout.FromAPI, "test.echo.echo: no reply from 10.0.0.1:443 within 2m0s, the API's timeout"},
		"the RPC's":         {soon, nil, 0, time.Minute, timeout.FromRPC, "test.echo.echo_soon: no reply from 10.0.0.1:443 within 1m0s, the RPC's timeout"},
		"an earlier option": {viaEcho, []grpc.CallOption{framework.Timeout(time.Second)}, 0, time.Second, timeout.FromOption, "test.echo.echo: no reply from 10.0.0.1:443 within 1s, the call's Timeout option"},
		"a later option":    {soon, []grpc.CallOption{framework.Timeout(time.Hour)}, 0, time.Hour, timeout.FromOption, "test.echo.echo_soon: no reply from 10.0.0.1:443 within 1h0m0s, the call's Timeout option"},
		"the last option":   {viaEcho, []grpc.CallOption{framework.Timeout(time.Hour), framework.Timeout(time.Minute)}, 0, time.Minute, timeout.FromOption, "within 1m0s"},
		"the caller's":      {viaEcho, nil, 300 * time.Millisecond, 300 * time.Millisecond, timeout.FromCaller, "test.echo.echo: no reply from 10.0.0.1:443 before the caller's own deadline (300ms) passed"},
		"the RPC's, not a later one of the caller's": {soon, nil, time.Hour, time.Minute, timeout.FromRPC, "the RPC's timeout"},
		"the caller's, not a later option":           {soon, []grpc.CallOption{framework.Timeout(time.Hour)}, time.Minute, time.Minute, timeout.FromCaller, "the caller's own deadline"},
		"the API's, of an asynchronous call":         {async, nil, 0, 2 * time.Minute, timeout.FromAPI, "test.echo.echo: no reply from 10.0.0.1:443 within 2m0s, the API's timeout"},
		"a later option, of an asynchronous call":    {async, []grpc.CallOption{framework.Timeout(time.Hour)}, 0, time.Hour, timeout.FromOption, "within 1h0m0s"},
		"the caller's, of an asynchronous call":      {async, nil, time.Second, time.Second, timeout.FromCaller, "the caller's own deadline (1s)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				bus, _, _ := inMemory(t, &echo{echo: late, soon: late, ping: late})
				ready(t, bus, "onecall.test.v1.PlainService")
				ctx, cancel := context.WithCancel(t.Context())
				if test.own > 0 {
					ctx, cancel = context.WithTimeout(t.Context(), test.own)
				}
				defer cancel()
				start := time.Now()
				err := test.call(ctx, bus, test.opts...)
				if took := time.Since(start); took != test.after {
					t.Errorf("ended after %v, want %v", took, test.after)
				}
				var timed *timeout.Error
				if status.Code(err) != codes.DeadlineExceeded || !errors.As(err, &timed) || timed.Limit.Source != test.source || !strings.Contains(err.Error(), test.says) {
					t.Errorf("the error is %v (%v), want DEADLINE_EXCEEDED that says %q", err, status.Code(err), test.says)
				}
			})
		})
	}
}

func TestACallWhoseTimeoutOptionIsRefusedWasNotSent(t *testing.T) {
	t.Parallel()
	bus := newBus(t, untouched{fixed{}, t})
	client, wrong := testv1.NewEchoServiceClient(bus), framework.Timeout(-1)
	for rpc, call := range map[string]func() error{
		"test.echo.echo": func() error {
			_, err := client.Echo(t.Context(), &testv1.EchoRequest{}, wrong)
			return err
		},
		"test.echo.echo_soon": func() error {
			_, err := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{}, wrong).Await(t.Context())
			return err
		},
		"test.kinds.sign_in": func() error {
			_, err := bus.Call(t.Context(), "test.kinds.sign_in", framework.Args{"username": "adam", "password": "secr3t"}, wrong)
			return err
		},
		"nobody.knows": func() error { // whose schema is not asked for either
			_, err := bus.Call(t.Context(), "nobody.knows", framework.Args{}, wrong)
			return err
		},
		"test.echo.chat": func() error { // which takes no such option at all
			_, err := client.Chat(t.Context(), wrong)
			return err
		},
	} {
		t.Run(rpc, func(t *testing.T) {
			err := call()
			if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.NotSent {
				t.Errorf("%s = %v (%v, %v), want INVALID_ARGUMENT of a call that was not sent", rpc, err, status.Code(err), framework.OutcomeOf(err))
			}
			if !strings.HasPrefix(err.Error(), rpc) || !strings.Contains(err.Error(), "option Timeout") {
				t.Errorf("%q does not begin with %q and name the option", err, rpc)
			}
		})
	}
}

func TestAStreamHasNoTimeoutOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus, _, _ := inMemory(t, &echo{})
		stream, err := testv1.NewEchoServiceClient(bus).Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour) // of fake time
		if err := stream.Send(&testv1.ChatRequest{Text: "still here"}); err != nil {
			t.Fatal(err)
		}
		if reply, err := stream.Recv(); err != nil || reply.GetText() != "still here" {
			t.Errorf("after a day: %v, %v", reply, err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err == nil {
			t.Error("a stream goes on after its end")
		}
	})
}

func TestABusThatWasIdleCallsAsEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus, service, _ := inMemory(t, &echo{})
		client := testv1.NewEchoServiceClient(bus)
		for range 2 {
			if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour) // grpc-go closes what is idle for half an hour
		}
		if err := service.stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		_, err := client.Echo(t.Context(), &testv1.EchoRequest{})
		if !errors.As(err, new(*discovery.NoInstanceError)) {
			t.Errorf("after its service ended an idle bus told %v, want a NoInstanceError", err)
		}
	})
}

func TestADeadlineOfAnInnerCallIsTheHandlersWord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus, _, _ := inMemory(t, &echo{echo: func(context.Context, string) (string, error) {
			return "", status.Error(codes.DeadlineExceeded, "the ledger did not answer")
		}})
		_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
		if status.Code(err) != codes.DeadlineExceeded || errors.As(err, new(*timeout.Error)) || !strings.Contains(err.Error(), "the ledger did not answer") {
			t.Errorf("the error is %v, want the handler's own", err)
		}
	})
}

func TestTheServerHoldsHandlersOfCallersWithoutADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, _, listener := inMemory(t, &echo{echo: obedient, soon: func(ctx context.Context, _ string) (string, error) {
			<-ctx.Done()
			return "late", nil
		}})
		conn := plain(t, listener)
		start := time.Now()
		_, err := testv1.NewEchoServiceClient(conn).Echo(t.Context(), &testv1.EchoRequest{})
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("the handler was held for %v, want 2m", took)
		}
		if want := "test.echo.echo: the handler did not finish within 2m0s, the API's timeout"; status.Code(err) != codes.DeadlineExceeded || status.Convert(err).Message() != want {
			t.Errorf("the caller was told %v, want DEADLINE_EXCEEDED with %q", err, want)
		}
		// A late reply is a reply too.
		reply, err := testv1.NewEchoServiceClient(conn).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		if err != nil || reply.GetText() != "late" {
			t.Errorf("a late reply = %v, %v", reply, err)
		}
	})
}

// plain is a connection of a program that does not use the framework.
func plain(t *testing.T, listener *bufconn.Listener) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///service",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}
