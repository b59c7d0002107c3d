package framework_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/faulty/peer"
	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// plainServer serves e as any gRPC server does, and returns its address.
func plainServer(t *testing.T, e *echo) string {
	t.Helper()
	server := grpc.NewServer()
	e.register(server)
	return grpctest.Loopback(t, server)
}

func TestAHandlersErrorReadsAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.Unknown, codes.NotFound, codes.Internal, codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.ResourceExhausted} {
		detailed, err := status.New(code, "\t\nit said 100 % ☺\r\n").WithDetails(&errdetails.ErrorInfo{Reason: "OF_ITS_OWN", Domain: "test"})
		if err != nil {
			t.Fatal(err)
		}
		want := detailed.Err()
		e := &echo{
			echo:  func(context.Context, string) (string, error) { return "", want },
			soon:  func(context.Context, string) (string, error) { return "", want },
			watch: func(testv1.EchoService_WatchServer) error { return want },
		}
		if code == codes.NotFound { // one that sends its header first, so that the error comes alone
			e.soon = func(ctx context.Context, _ string) (string, error) {
				_ = grpc.SendHeader(ctx, metadata.Pairs("own", "x"))
				return "", want
			}
		}
		served, plainly := memory.New(), memory.New()
		serveReady(t, served, e)
		address := plainServer(t, e)
		if _, err := plainly.Register(discovery.Instance{API: "test.echo", Address: address, State: discovery.Serving}); err != nil {
			t.Fatal(err)
		}
		direct, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = direct.Close() })
		_, asGRPC := testv1.NewEchoServiceClient(direct).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		for where, at := range map[string]struct {
			registry *memory.Registry
			outcome  framework.Outcome
		}{"Serve": {served, framework.Executed}, "a plain server": {plainly, framework.Unknown}} {
			bus, conn := newBus(t, at.registry, framework.Retry(framework.RetryNotRun)), dial(t, at.registry, framework.Retry(framework.RetryNotRun))
			for shape, call := range shapes {
				if shape == "client stream" || shape == "stream both ways" {
					continue // whose handlers here have no error
				}
				t.Run(code.String()+", "+where+", "+shape, func(t *testing.T) {
					t.Parallel()
					err := call(t.Context(), bus, conn)
					if err == nil || err.Error() != asGRPC.Error() || err.Error() != want.Error() {
						t.Errorf("the error reads %q, of grpc-go %q", err, asGRPC)
					}
					if got := framework.OutcomeOf(err); got != at.outcome || !proto.Equal(status.Convert(err).Proto(), status.Convert(asGRPC).Proto()) {
						t.Errorf("the outcome is %v, the status %v", got, status.Convert(err).Proto())
					}
				})
			}
		}
	}
}

func TestAStreamThatDeliveredAMessageAndBrokeRan(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]peer.Step{
		"a reset":             peer.Reset(http2.ErrCodeInternal),
		"a broken socket":     peer.Abort(),
		"an error of its own": peer.Fail(codes.Unavailable, "busy"),
	} {
		for kind, incarnation := range map[string]discovery.Incarnation{"an instance": discovery.NewIncarnation(), "a plain server": {}} {
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				arrived := make(chan struct{}, 10)
				p := peer.Serve(listener, peer.Config{}, peer.Always(peer.Read(), peer.Execute(), peer.Message(&testv1.WatchResponse{Text: "first"}), peer.Until(arrived), breaks))
				t.Cleanup(func() { _ = p.Close() })
				registry := memory.New()
				if _, err := registry.Register(discovery.Instance{API: "test.echo", Address: p.Address(), Incarnation: incarnation, State: discovery.Serving}); err != nil {
					t.Fatal(err)
				}
				client := testv1.NewEchoServiceClient(newBus(t, registry))
				check := func(receive func() error) {
					t.Helper()
					if err := receive(); err != nil {
						t.Fatal(err)
					}
					arrived <- struct{}{}
					if err := receive(); err == nil || errors.Is(err, io.EOF) || framework.OutcomeOf(err) != framework.Executed {
						t.Errorf("after a message the stream ended with %v, %v", err, framework.OutcomeOf(err))
					}
				}
				watch, err := client.Watch(t.Context(), &testv1.WatchRequest{})
				if err != nil {
					t.Fatal(err)
				}
				check(func() error { _, err := watch.Recv(); return err })
				chat, err := client.Chat(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(chat.Send(&testv1.ChatRequest{}), chat.CloseSend()); err != nil {
					t.Fatal(err)
				}
				check(func() error { _, err := chat.Recv(); return err })
			})
		}
	}
	// A header proves nothing: proxies and interceptors send it too.
	registry := memory.New()
	scripted(t, registry, peer.Always(peer.Read(), peer.AnswerHeaders(), peer.Abort()))
	watch, err := testv1.NewEchoServiceClient(newBus(t, registry)).Watch(t.Context(), &testv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); framework.OutcomeOf(err) != framework.Unknown {
		t.Errorf("after a header the stream ended with %v", err)
	}
}

func TestARequestThatCannotBeWrittenIsNotSent(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveReady(t, registry, &echo{})
	client := testv1.NewEchoServiceClient(newBus(t, registry))
	const latin1 = "caf\xe9"
	for name, call := range map[string]func(text string, options ...grpc.CallOption) error{
		"unary": func(text string, options ...grpc.CallOption) error {
			_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: text}, options...)
			return err
		},
		"asynchronous": func(text string, options ...grpc.CallOption) error {
			_, err := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{Text: text}, options...).Await(t.Context())
			return err
		},
		"server stream": func(text string, options ...grpc.CallOption) error {
			_, err := client.Watch(t.Context(), &testv1.WatchRequest{Text: text}, options...)
			return err
		},
	} {
		t.Run(name+", no UTF-8", func(t *testing.T) {
			if err := call(latin1); status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.NotSent {
				t.Errorf("%v, want INTERNAL, not sent", err)
			}
		})
		t.Run(name+", too large", func(t *testing.T) {
			if err := call("hello", grpc.MaxCallSendMsgSize(3)); status.Code(err) != codes.ResourceExhausted || framework.OutcomeOf(err) != framework.NotSent {
				t.Errorf("%v, want RESOURCE_EXHAUSTED, not sent", err)
			}
		})
	}
	// The handler of a stream of requests starts before the first of them.
	stream, err := client.Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testv1.ChatRequest{Text: latin1}); framework.OutcomeOf(err) != framework.Unknown {
		t.Errorf("a stream of requests = %v, want that it is not known", err)
	}
}

func TestAnErrorIsThatOfTheCallersOwnContext(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	started := make(chan struct{}, 100)
	hang := func(ctx context.Context, _ string) (string, error) {
		started <- struct{}{}
		<-ctx.Done()
		return "", status.FromContextError(ctx.Err()).Err()
	}
	serveReady(t, registry, &echo{echo: hang, soon: hang, watch: func(stream testv1.EchoService_WatchServer) error {
		_, err := hang(stream.Context(), "")
		return err
	}})
	bus, conn := newBus(t, registry), dial(t, registry)
	for shape, call := range shapes {
		if shape == "client stream" || shape == "stream both ways" {
			continue // whose handlers here do not wait
		}
		t.Run(shape, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := call(ctx, bus, conn); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
				t.Errorf("after its deadline the call = %v", err)
			}
			for len(started) > 0 {
				<-started
			}
			ctx, cancel = context.WithCancel(t.Context())
			go func() {
				<-started
				cancel()
			}()
			if err := call(ctx, bus, conn); !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("when it was cancelled the call = %v", err)
			}
		})
	}
	// The call's timeout is not the deadline of the caller's context.
	if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}, framework.Timeout(20*time.Millisecond)); status.Code(err) != codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after its timeout the call = %v", err)
	}
	// There is no instance to call.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	silently := newBus(t, silent{})
	if _, err := testv1.NewEchoServiceClient(silently).Echo(ctx, &testv1.EchoRequest{}); !errors.Is(err, context.DeadlineExceeded) || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("without an answer of the registry the call = %v", err)
	}
	if _, err := silently.Call(ctx, "nobody.here"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("by name it = %v", err)
	}
}
