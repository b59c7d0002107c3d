package server_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// positions has an interceptor run at each position around the handler of a unary call.
var positions = map[string]func(interceptor grpc.UnaryServerInterceptor) (server.Config, inner){
	"after admission": func(interceptor grpc.UnaryServerInterceptor) (server.Config, inner) {
		return server.Config{AfterUnary: server.Pin(interceptor)}, inner{}
	},
	"the gRPC server's": func(interceptor grpc.UnaryServerInterceptor) (server.Config, inner) {
		return server.Config{}, inner{unary: interceptor}
	},
	"the gRPC server's, with one inside": func(interceptor grpc.UnaryServerInterceptor) (server.Config, inner) {
		return server.Config{InnerUnary: passing}, inner{unary: interceptor}
	},
	"inside": func(interceptor grpc.UnaryServerInterceptor) (server.Config, inner) {
		return server.Config{InnerUnary: server.Pin(interceptor)}, inner{}
	},
}

func passing(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(ctx, req)
}

func TestUnaryInterceptorsRunInOrder(t *testing.T) {
	t.Parallel()
	var ran []string
	noting := func(name string) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if info.FullMethod != testv1.EchoService_Echo_FullMethodName || server.MethodOf(ctx) != info.FullMethod {
				t.Errorf("%s runs for %q and %q", name, info.FullMethod, server.MethodOf(ctx))
			}
			ran = append(ran, name)
			reply, err := handler(ctx, req)
			ran = append(ran, name)
			return reply, err
		}
	}
	guard, err := server.New(server.Config{
		Incarnation: discovery.NewIncarnation(),
		BeforeUnary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ran = append(ran, "before")
			return handler(ctx, req)
		},
		AfterUnary: noting("after"),
		InnerUnary: noting("inner"),
		Handle: func(ctx context.Context, req any, handler grpc.UnaryHandler) (any, error) {
			ran = append(ran, "handle")
			return handler(ctx, req)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	method := guard.Instrument(&testv1.EchoService_ServiceDesc).Methods[0].Handler
	served := &echo{do: func(context.Context) error { ran = append(ran, "handler"); return nil }}
	for name, own := range map[string]grpc.UnaryServerInterceptor{"": nil, "own": noting("own")} {
		ran = nil
		if _, err := method(served, t.Context(), func(any) error { return nil }, own); err != nil {
			t.Fatal(err)
		}
		want := []string{"before", "after", "own", "inner", "handle", "handler", "inner", "own", "after"}
		want = slices.DeleteFunc(want, func(at string) bool { return name == "" && at == "own" })
		if !slices.Equal(ran, want) {
			t.Errorf("ran %q, want %q", ran, want)
		}
	}
}

func TestACallThatAnInterceptorAnywhereEndsSaysWhetherItsHandlerRan(t *testing.T) {
	t.Parallel()
	denied := status.Error(codes.PermissionDenied, "denied")
	for name, around := range positions {
		for outcome, times := range map[string]int{atmostonce.OutcomeRefused: 0, atmostonce.OutcomeExecuted: 1} {
			t.Run(name+", "+outcome, func(t *testing.T) {
				t.Parallel()
				config, within := around(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
					for range times {
						_, _ = handler(ctx, req)
					}
					return nil, denied
				})
				f := serve(t, config, &echo{}, within)
				trailer, err := f.unary(f.identity(1).Value())
				if status.Code(err) != codes.PermissionDenied {
					t.Errorf("error = %v", err)
				}
				f.wantTrailer(t, trailer, outcome)
				f.wantRuns(t, int64(times))
			})
		}
	}
}

func TestAHandlerStartsOnceWhereverAnInterceptorCallsItTwice(t *testing.T) {
	t.Parallel()
	for name, around := range positions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, within := around(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				_, _ = handler(ctx, req)
				return handler(ctx, req)
			})
			f := serve(t, config, &echo{}, within)
			trailer, err := f.unary(f.identity(1).Value())
			f.wantRefusal(t, err, trailer, atmostonce.DuplicateCall, atmostonce.OutcomeExecuted)
			f.wantRuns(t, 1)
		})
	}
}

// TestACallStaysTheSameWhateverContextAnInterceptorPassesOn has two calls pass on each
// other's context, and a third one a context of no call. Each handler must run for its own
// call: with its request, and with its outcome.
func TestACallStaysTheSameWhateverContextAnInterceptorPassesOn(t *testing.T) {
	t.Parallel()
	for name, around := range positions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var both sync.WaitGroup
			both.Add(2)
			var contexts sync.Map // by the text of the request
			config, within := around(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				text := req.(*testv1.EchoRequest).GetText()
				other, swapped := map[string]string{"a": "b", "b": "a"}[text]
				if !swapped {
					return handler(context.Background(), req)
				}
				contexts.Store(text, ctx)
				both.Done()
				both.Wait()
				others, _ := contexts.Load(other)
				return handler(others.(context.Context), req)
			})
			config.Handle = func(ctx context.Context, req any, handler grpc.UnaryHandler) (any, error) {
				if _, err := handler(ctx, req); err != nil {
					return nil, err
				}
				return nil, status.Error(codes.Aborted, req.(*testv1.EchoRequest).GetText())
			}
			f := serve(t, config, &echo{}, within)
			var calls sync.WaitGroup
			for _, text := range []string{"a", "b", "c"} {
				calls.Go(func() {
					var trailer metadata.MD
					_, err := testv1.NewEchoServiceClient(f.conn).Echo(identified(t.Context(), []string{f.identity(1).Value()}), &testv1.EchoRequest{Text: text}, grpc.Trailer(&trailer))
					if got := status.Convert(err); got.Code() != codes.Aborted || got.Message() != text {
						t.Errorf("the call of %s ended with %v", text, err)
					}
					f.wantTrailer(t, trailer, atmostonce.OutcomeExecuted)
				})
			}
			calls.Wait()
			f.wantRuns(t, 3)
		})
	}
}
