package framework_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/peer"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// serveWithoutStreams serves test.echo as an older release that has no streams.
func serveWithoutStreams(t *testing.T, registry discovery.Registry) {
	t.Helper()
	older := testv1.EchoService_ServiceDesc
	older.Streams = nil
	serveAny(t, registry, func(apis grpc.ServiceRegistrar) { apis.RegisterService(&older, &echo{}) })
}

// pieces returns a number of messages of a size for a stream.
func pieces(count, size int) []string {
	texts := make([]string, count)
	for i := range texts {
		texts[i] = strconv.Itoa(i) + strings.Repeat("x", size)
	}
	return texts
}

// streams are the ways to call a stream. Each sends texts and returns what the
// handler answered.
var streams = map[string]func(ctx context.Context, client testv1.EchoServiceClient, texts []string) ([]string, error){
	"Watch": func(ctx context.Context, client testv1.EchoServiceClient, texts []string) (got []string, err error) {
		stream, err := client.Watch(ctx, &testv1.WatchRequest{Text: texts[0], Count: 1})
		if err != nil {
			return nil, err
		}
		for {
			reply, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return append(got, texts[1:]...), nil // it sends one
			}
			if err != nil {
				return nil, err
			}
			got = append(got, reply.GetText())
		}
	},
	"Collect": func(ctx context.Context, client testv1.EchoServiceClient, texts []string) ([]string, error) {
		stream, err := client.Collect(ctx)
		if err != nil {
			return nil, err
		}
		for _, text := range texts {
			if err := stream.Send(&testv1.CollectRequest{Text: text}); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err
			}
		}
		reply, err := stream.CloseAndRecv()
		return reply.GetTexts(), err
	},
	"Chat": func(ctx context.Context, client testv1.EchoServiceClient, texts []string) (got []string, err error) {
		stream, err := client.Chat(ctx)
		if err != nil {
			return nil, err
		}
		go func() { // while replies are received
			for _, text := range texts {
				if stream.Send(&testv1.ChatRequest{Text: text}) != nil {
					break
				}
			}
			_ = stream.CloseSend()
		}()
		for {
			reply, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return got, nil
			}
			if err != nil {
				return nil, err
			}
			got = append(got, reply.GetText())
		}
	},
}

// TestAStreamThatAnInstanceDoesNotHaveIsBegunAgainElsewhere is about a rolling deployment:
// one of three instances has the streams.
func TestAStreamThatAnInstanceDoesNotHaveIsBegunAgainElsewhere(t *testing.T) {
	t.Parallel()
	for name, call := range streams {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			serveWithoutStreams(t, registry)
			serveWithoutStreams(t, registry)
			var begun atomic.Int64
			serve(t, registry, &echo{}, framework.ServerOptions(grpc.ChainStreamInterceptor(
				func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
					if strings.HasPrefix(info.FullMethod, "/onecall.test.") {
						begun.Add(1)
					}
					return handler(srv, stream)
				})))
			serving(t, registry, 3)
			bus := newBus(t, registry, framework.LoadBalancing("round_robin", ""))
			ready(t, bus, "test.echo")
			client := testv1.NewEchoServiceClient(bus)
			const calls = 30
			for i := range calls {
				texts := pieces(5, 1000)
				if got, err := call(t.Context(), client, texts); err != nil || !slices.Equal(got, texts) {
					t.Fatalf("stream %d = %.60q, %v", i+1, got, err)
				}
			}
			if got := begun.Load(); got != calls {
				t.Errorf("%d streams had %d handlers", calls, got)
			}
		})
	}
}

// TestAStreamThatMayHaveRunIsNotBegunAgain breaks the connection while the handler runs.
func TestAStreamThatMayHaveRunIsNotBegunAgain(t *testing.T) {
	t.Parallel()
	breaking := peer.Always(peer.Read(), peer.Execute(), peer.Abort())
	for name, call := range streams {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			broken := []*peer.Peer{scripted(t, registry, breaking), scripted(t, registry, breaking)}
			bus := newBus(t, registry)
			ready(t, bus, "test.echo")
			_, err := call(t.Context(), testv1.NewEchoServiceClient(bus), pieces(5, 10))
			if got := arrived(broken...); got != 1 || framework.OutcomeOf(err) != framework.Unknown {
				t.Errorf("%d streams arrived; the error is %v (%v)", got, err, framework.OutcomeOf(err))
			}
		})
	}
}

// TestAStreamThatSentMuchIsNotBegunAgain sends more than a stream keeps, to an instance
// that does not have the stream's RPC.
func TestAStreamThatSentMuchIsNotBegunAgain(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveWithoutStreams(t, registry)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	stream, err := testv1.NewEchoServiceClient(bus).Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range pieces(100, 1000) {
		if err := stream.Send(&testv1.ChatRequest{Text: text}); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	_, err = stream.Recv()
	if status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.Refused {
		t.Errorf("Recv = %v (%v)", err, framework.OutcomeOf(err))
	}
	if want := "it was not retried, because the program had sent more than 64 KiB"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Recv = %v, want an error that says %q", err, want)
	}
}

// TestAStreamWhoseHeaderWasReadIsNotBegunAgain reads the header of one instance, after
// which the messages of another must not follow.
func TestAStreamWhoseHeaderWasReadIsNotBegunAgain(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveWithoutStreams(t, registry)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	stream, err := testv1.NewEchoServiceClient(bus).Watch(t.Context(), &testv1.WatchRequest{Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	serve(t, registry, &echo{})
	serving(t, registry, 2)
	if _, err := stream.Recv(); framework.OutcomeOf(err) != framework.Refused {
		t.Errorf("Recv = %v (%v)", err, framework.OutcomeOf(err))
	}
}

func TestANilMessageOfAStreamIsRefused(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	ended := make(chan error, 1)
	serve(t, registry, &echo{}, framework.ServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			err := handler(srv, stream)
			if strings.HasSuffix(info.FullMethod, "/Chat") {
				ended <- err
			}
			return err
		})))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	t.Run("the only one", func(t *testing.T) {
		_, err := client.Watch(t.Context(), nil)
		if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.NotSent ||
			!strings.HasPrefix(err.Error(), "test.echo.watch: the request is nil: pass a message") {
			t.Errorf("Watch = %v (%v)", err, framework.OutcomeOf(err))
		}
	})
	t.Run("one of many", func(t *testing.T) {
		stream, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&testv1.ChatRequest{Text: "hi"}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		err = stream.Send(nil)
		if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.Executed ||
			!strings.HasPrefix(err.Error(), "test.echo.chat: the request is nil: pass a message") {
			t.Errorf("Send = %v (%v)", err, framework.OutcomeOf(err))
		}
		if err := eventually.Receive(t, "the end of the handler", ended); status.Code(err) != codes.Canceled {
			t.Errorf("the handler ended with %v", err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("Recv = %v", err)
		}
	})
}
