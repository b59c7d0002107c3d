package framework_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// start starts e, and stops it when the test ends.
func start(t *testing.T, registry *memory.Registry, e *echo, options ...framework.ServeOption) *framework.Service {
	t.Helper()
	service, err := framework.Start(context.Background(), registry, e.register, append([]framework.ServeOption{quiet}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return service
}

func TestAStartedServiceSaysWhereItIsAndWhatItCounted(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	entered, leave := make(chan struct{}), make(chan struct{})
	service := start(t, registry, &echo{echo: func(_ context.Context, text string) (string, error) {
		switch text {
		case "fail":
			return "", status.Error(codes.NotFound, "no such thing")
		case "wait":
			close(entered)
			<-leave
		}
		return text, nil
	}}, framework.Admission(framework.AdmissionConfig{RequireIdentity: true}))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	call := func(text string) error {
		_, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: text})
		return err
	}
	if err := errors.Join(call("x"), everyShape["server streaming"](t.Context(), bus, &testv1.WatchRequest{})); err != nil {
		t.Fatal(err)
	}
	if err := call("fail"); status.Code(err) != codes.NotFound {
		t.Errorf("a call = %v", err)
	}
	if err := everyShape["unary"](t.Context(), dialled(t, service.Address()), &testv1.EchoRequest{}); atmostonce.ReasonOf(err) != atmostonce.IdentityRequired {
		t.Errorf("without an identity: %v", err)
	}
	waiting := framework.CallAsync(t.Context(), client.Echo, &testv1.EchoRequest{Text: "wait"})
	eventually.Receive(t, "the handler", entered)
	// The caller may have a reply before the call has ended here.
	eventually.True(t, "the calls that ended", func() bool { return service.Stats().Served == 3 })
	stats := service.Stats()
	want := map[string]framework.RPCStats{"test.echo.echo": {InFlight: 1, Served: 2, Failed: 1}, "test.echo.watch": {Served: 1}, "test.echo.chat": {}}
	for rpc, want := range want {
		if got := stats.RPCs[rpc]; got != want {
			t.Errorf("of %s %+v was counted, want %+v", rpc, got, want)
		}
	}
	if stats.InFlight != 1 || stats.Failed != 1 || stats.Refused[atmostonce.IdentityRequired] != 1 || stats.Refused[atmostonce.DuplicateCall] != 0 {
		t.Errorf("the counters are %+v", stats)
	}
	if stats.Sessions != 1 || stats.Principals != 1 || stats.IdleSessions != 0 || !stats.Registered || stats.RegistrationError != nil {
		t.Errorf("the state is %+v", stats)
	}
	close(leave)
	if _, err := waiting.Await(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAStartedServiceStopsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		defer end()
		service, err := framework.Start(ctx, stuck{}, (&echo{}).register, quiet, framework.ShutdownTimeout(10*time.Second),
			framework.Listener(bufconn.Listen(1)), framework.AdvertiseAs("10.0.0.1:443"))
		if err != nil {
			t.Fatal(err)
		}
		if service.Address() != "10.0.0.1:443" {
			t.Errorf("the address is %s", service.Address())
		}
		hurried, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := service.Stop(hurried); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a Stop that may not wait = %v", err)
		}
		select {
		case <-service.Done():
			t.Error("it is done before it has left the registry")
		default:
		}
		for range 2 {
			if err := service.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "no close") || !errors.Is(err, service.Wait()) {
				t.Errorf("Stop = %v", err)
			}
		}
		<-service.Done()
	})
}

func TestAListenerIsClosedAlsoWhenTheServiceCannotStart(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		options []framework.ServeOption // other than the listener
		want    string
	}{
		"an option before it": {[]framework.ServeOption{framework.ShutdownTimeout(0)}, "option ShutdownTimeout"},
		"another listener":    {[]framework.ServeOption{framework.ListenOn(":0")}, "options ListenOn and Listener: both are given"},
		"an address":          {[]framework.ServeOption{framework.AdvertiseAs("0.0.0.0:1")}, "registering: "},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_, err = framework.Start(t.Context(), memory.New(), (&echo{}).register, append(test.options, framework.Listener(listener))...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Start = %v, want an error that says %q", err, test.want)
			}
			if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the listener is open: %v", err)
			}
		})
	}
}
