package framework_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestANilRequestIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	bus, _, _ := inMemory(t, &echo{})
	client := testv1.NewEchoServiceClient(bus)
	for name, call := range map[string]func() error{
		"a nil message": func() error { _, err := client.EchoSoon(t.Context(), nil); return err },
		"asynchronous": func() error {
			_, err := framework.CallAsync(t.Context(), client.EchoSoon, nil).Await(t.Context())
			return err
		},
		"no message at all": func() error {
			return bus.Invoke(t.Context(), testv1.EchoService_EchoSoon_FullMethodName, nil, &testv1.EchoSoonResponse{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := call()
			if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.NotSent || !strings.HasPrefix(err.Error(), "test.echo.echo_soon: the request is nil: ") {
				t.Error(err)
			}
		})
	}
	if _, err := bus.Call(t.Context(), "test.echo.echo", framework.Args{"text": ""}); err != nil {
		t.Errorf("by name, without parameters: %v", err)
	}
}

func TestCallsOnAClosedBusNameTheirRPC(t *testing.T) {
	t.Parallel()
	bus, _, _ := inMemory(t, &echo{})
	if err := bus.Close(); err != nil {
		t.Fatal(err)
	}
	client := testv1.NewEchoServiceClient(bus)
	for name, call := range map[string]func() error{
		"test.echo.echo_soon": func() error { _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); return err },
		"test.echo.chat":      func() error { _, err := client.Chat(t.Context()); return err },
		"test.echo.echo": func() error {
			_, err := client.Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(time.Minute))
			return err
		},
		"shop.items.find": func() error { _, err := bus.Call(t.Context(), "shop.items.find", framework.Args{}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := call()
			if !errors.Is(err, framework.ErrClosed) || status.Code(err) != codes.Canceled || framework.OutcomeOf(err) != framework.NotSent {
				t.Error(err)
			}
			if !strings.HasPrefix(err.Error(), name+": the bus is closed: ") {
				t.Errorf("the error does not name it: %v", err)
			}
		})
	}
}

func TestARequestThatIsTooLargeForTheServiceSaysWhatToDo(t *testing.T) {
	t.Parallel()
	const remedy = "raise grpc.MaxRecvMsgSize in the service's ServerOptions"
	registry := memory.New()
	own := &echo{echo: func(context.Context, string) (string, error) {
		return "", status.Error(codes.ResourceExhausted, "the quota is used up")
	}}
	serve(t, registry, own, framework.ServerOptions(grpc.MaxRecvMsgSize(1000)))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	_, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: strings.Repeat("x", 2000)})
	if status.Code(err) != codes.ResourceExhausted || !strings.HasPrefix(err.Error(), "test.echo.echo: ") || !strings.Contains(err.Error(), remedy) {
		t.Errorf("too large: %v", err)
	}
	_, err = client.Echo(t.Context(), &testv1.EchoRequest{Text: "x"})
	if strings.Contains(err.Error(), remedy) || status.Convert(err).Message() != "the quota is used up" {
		t.Errorf("a handler's own error: %v", err)
	}
}

func TestAClosedRegistryIsNamedAsTheCause(t *testing.T) {
	t.Parallel()
	const cause = "etcd: the registry is closed: close it after the buses and services that use it"
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{"http://127.0.0.1:1"}, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Close(); err != nil {
		t.Fatal(err)
	}
	bus := newBus(t, registry)
	calls := map[string]func() error{
		"by type": func() error {
			_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
			return err
		},
		"by name": func() error { _, err := bus.Call(t.Context(), "shop.items.find"); return err },
		"Serve":   func() error { return framework.Serve(t.Context(), registry, (&echo{}).register, quiet) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := call(); err == nil || !strings.Contains(err.Error(), cause) {
				t.Errorf("it = %v, want an error that says %q", err, cause)
			}
		})
	}
}

func TestAMethodThatTheInstanceDoesNotHaveIsNamed(t *testing.T) {
	t.Parallel()
	bus, _, _ := inMemory(t, &echo{})
	err := bus.Invoke(t.Context(), "/onecall.test.v1.EchoService/Whisper", &testv1.EchoRequest{}, &testv1.EchoResponse{})
	const want = `test.echo.whisper: the instance has no method "/onecall.test.v1.EchoService/Whisper": it is older or newer than the caller's .proto, ` +
		"or serves another API: build both from the same .proto (the call was refused and did not run)"
	if err == nil || err.Error() != want || status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.Refused {
		t.Errorf("a call = %v, want %s", err, want)
	}
}

func TestAServiceWithoutTheOptionIsSuggested(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveReady(t, registry, &echo{})
	_, err := newBus(t, registry).Call(t.Context(), "onecall.test.v1.ping", framework.Args{"text": ""})
	const want = "did you mean onecall.test.v1.PlainService? a service without option (onecall.v1.api).name goes by its full proto name"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a call = %v, want an error that says %q", err, want)
	}
}

func TestAMessageThatIsTooLargeForTheCallerSaysWhatToDo(t *testing.T) {
	t.Parallel()
	bus, _, _ := inMemory(t, &echo{echo: func(context.Context, string) (string, error) { return strings.Repeat("x", 5<<20), nil }})
	client := testv1.NewEchoServiceClient(bus)
	for name, test := range map[string]struct {
		request *testv1.EchoRequest
		option  grpc.CallOption
		want    string
	}{
		"a reply":   {&testv1.EchoRequest{}, framework.Timeout(time.Minute), "raise grpc.MaxCallRecvMsgSize"},
		"a request": {&testv1.EchoRequest{Text: "hello"}, grpc.MaxCallSendMsgSize(3), "raise grpc.MaxCallSendMsgSize"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := client.Echo(t.Context(), test.request, test.option)
			if status.Code(err) != codes.ResourceExhausted || !strings.HasPrefix(err.Error(), "test.echo.echo: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("too large: %v", err)
			}
		})
	}
}
