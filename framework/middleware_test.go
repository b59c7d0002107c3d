package framework_test

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/realip"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// counter is a limiter and a logger of go-grpc-middleware that counts.
type counter struct{ limited, logged atomic.Int64 }

func (c *counter) Limit(context.Context) error { c.limited.Add(1); return nil }

func (c *counter) Log(context.Context, logging.Level, string, ...any) { c.logged.Add(1) }

// TestInterceptorsOfGoGRPCMiddlewareGoIntoEachPlace runs each of them, unchanged, around
// RPCs of each shape.
func TestInterceptorsOfGoGRPCMiddlewareGoIntoEachPlace(t *testing.T) {
	t.Parallel()
	type place func(grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) framework.ServeOption
	for name, put := range map[string]place{
		"before admission": framework.BeforeAdmission,
		"after admission":  framework.AfterAdmission,
		"the program's own": func(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) framework.ServeOption {
			return framework.ServerOptions(grpc.ChainUnaryInterceptor(unary), grpc.ChainStreamInterceptor(stream))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count, registry := new(counter), memory.New()
			ofAPIs := selector.MatchFunc(func(_ context.Context, call interceptors.CallMeta) bool {
				return call.Service == "onecall.test.v1.EchoService"
			})
			local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			serve(t, registry, &echo{},
				put(recovery.UnaryServerInterceptor(), recovery.StreamServerInterceptor()),
				put(logging.UnaryServerInterceptor(count), logging.StreamServerInterceptor(count)),
				put(realip.UnaryServerInterceptorOpts(realip.WithTrustedPeers(local)), realip.StreamServerInterceptorOpts(realip.WithTrustedPeers(local))),
				put(selector.UnaryServerInterceptor(auth.UnaryServerInterceptor(byToken), ofAPIs), selector.StreamServerInterceptor(auth.StreamServerInterceptor(byToken), ofAPIs)),
				put(ratelimit.UnaryServerInterceptor(count), ratelimit.StreamServerInterceptor(count)))
			bus := newBus(t, registry)
			ready(t, bus, "test.echo")
			known := metadata.AppendToOutgoingContext(t.Context(), "token", "ann")
			for shape, call := range everyShape {
				t.Run(shape, func(t *testing.T) { //nolint:paralleltest // they share the counters
					limited, logged := count.limited.Load(), count.logged.Load()
					if err := call(t.Context(), bus, &testv1.EchoRequest{Text: "x"}); status.Code(err) != codes.Unauthenticated {
						t.Errorf("without a token: %v", err)
					}
					if got := count.limited.Load(); name != "the program's own" && got != limited {
						t.Errorf("a call that was not authenticated came to the limit")
					}
					if err := call(known, bus, &testv1.EchoRequest{Text: "x"}); err != nil {
						t.Errorf("with a token: %v", err)
					}
					if count.limited.Load() == limited || count.logged.Load() == logged {
						t.Error("an interceptor did not run")
					}
				})
			}
		})
	}
}
