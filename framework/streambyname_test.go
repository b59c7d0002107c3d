package framework_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func ExampleBus_Stream() {
	registry := memory.New()
	service, err := framework.Start(context.Background(), registry, func(apis grpc.ServiceRegistrar) {
		testv1.RegisterEchoServiceServer(apis, &echo{})
	}, quiet)
	if err != nil {
		log.Fatal(err)
	}
	bus, err := framework.NewBus(registry, quiet)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := bus.Stream(ctx, "test.echo.watch", framework.Args{"text": "hello", "count": 3})
	if err != nil {
		log.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Map())
	cancel()
	if err := errors.Join(bus.Close(), service.Stop(context.Background())); err != nil {
		log.Fatal(err)
	}
	// Output: map[text:hello]
}

// TestStreamsByNameAreTheTypedStreams makes a stream of each kind.
func TestStreamsByNameAreTheTypedStreams(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveAny(t, registry, (&echo{}).register)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	for name, test := range map[string]struct {
		requests []framework.Args
		replies  []string
	}{
		"test.echo.watch":   {[]framework.Args{{"text": "a", "count": 2}}, []string{"map[text:a]", "map[text:a]"}},
		"test.echo.collect": {[]framework.Args{{"text": "a"}, {"text": "b"}}, []string{"map[texts:[a b]]"}},
		"test.echo.chat":    {[]framework.Args{{"text": "a"}, {"text": "b"}}, []string{"map[text:a]", "map[text:b]"}},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := bus.Stream(eventually.Context(t), name)
			if err != nil {
				t.Fatal(err)
			}
			for _, request := range test.requests {
				if err := stream.Send(request); err != nil {
					t.Fatal(err)
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if got := received(t, stream); !slices.Equal(got, test.replies) {
				t.Errorf("got %q, want %q", got, test.replies)
			}
			if stream, err = bus.Stream(eventually.Context(t), name, test.requests[0]); err != nil {
				t.Fatal(err)
			}
			for _, request := range test.requests[1:] {
				if err := stream.Send(request); err != nil {
					t.Fatal(err)
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if got := received(t, stream); !slices.Equal(got, test.replies) {
				t.Errorf("with the first request at once got %q, want %q", got, test.replies)
			}
		})
	}
}

// received returns the replies until the end of a stream.
func received(t *testing.T, stream *framework.Stream) (replies []string) {
	t.Helper()
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return replies
		}
		if err != nil {
			t.Fatal(err)
		}
		replies = append(replies, fmt.Sprint(reply.Map()))
	}
}

// TestAWrongRequestIsNotSentAndTheStreamGoesOn sends parameters with a wrong name.
func TestAWrongRequestIsNotSentAndTheStreamGoesOn(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveAny(t, registry, (&echo{}).register)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	stream, err := bus.Stream(eventually.Context(t), "test.echo.collect")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(framework.Args{"txt": "a"}); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "did you mean text?") {
		t.Errorf("a wrong name: %v", err)
	}
	if err := errors.Join(stream.Send(framework.Args{"text": "b"}), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	if reply, err := stream.Recv(); err != nil || fmt.Sprint(reply.Map()) != "map[texts:[b]]" {
		t.Errorf("the reply is %v (%v)", reply, err)
	}
}

// TestOnlyStreamsAreStreamedByName uses RPCs that are none, or that no API has.
func TestOnlyStreamsAreStreamedByName(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveAny(t, registry, (&echo{}).register)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	if _, err := bus.Call(t.Context(), "test.echo.echo", framework.Args{"text": "x"}); err != nil {
		t.Fatal(err) // and so the bus knows the RPC
	}
	for title, args := range map[string][]any{
		"a wrong parameter": {framework.Args{"txt": "a"}}, "parameters twice": {framework.Args{"text": "a"}, framework.Args{"text": "b"}}, "a value": {"a"},
	} {
		t.Run(title, func(t *testing.T) {
			_, err := bus.Stream(t.Context(), "test.echo.watch", args...)
			if framework.OutcomeOf(err) != framework.NotSent || status.Code(err) != codes.InvalidArgument {
				t.Errorf("got %v (%v)", err, framework.OutcomeOf(err))
			}
		})
	}
	for name, want := range map[string]string{
		"test.echo.echo":  "test.echo.echo: it is not a stream: call it with Bus.Call, or use its generated client",
		"test.echo.watsh": `test.echo.watsh: API "test.echo" has no such RPC: did you mean test.echo.watch?`,
		"chat":            `"chat": no RPC has such a name`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bus.Stream(t.Context(), name)
			if framework.OutcomeOf(err) != framework.NotSent || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %v (%v), want %s", err, framework.OutcomeOf(err), want)
			}
		})
	}
	//nolint:staticcheck // a program can do this
	if _, err := bus.Stream(nil, "test.echo.chat"); framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a nil context: %v", err)
	}
}
