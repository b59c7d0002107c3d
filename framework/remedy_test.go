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
		err := call()
		if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.NotSent || !strings.HasPrefix(err.Error(), "test.echo.echo_soon: the request is nil: ") {
			t.Errorf("%s: %v", name, err)
		}
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
		err := call()
		if !errors.Is(err, framework.ErrClosed) || status.Code(err) != codes.Canceled || framework.OutcomeOf(err) != framework.NotSent {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.HasPrefix(err.Error(), name+": the bus is closed: ") {
			t.Errorf("%s: the error does not name it: %v", name, err)
		}
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
