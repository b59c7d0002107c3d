package framework_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// countingRuns is a service that counts its runs. Each run returns err.
func countingRuns(runs *atomic.Int64, err error) *echo {
	one := func(_ context.Context, text string) (string, error) {
		runs.Add(1)
		return text, err
	}
	return &echo{echo: one, soon: one, ping: one, watch: func(testv1.EchoService_WatchServer) error {
		runs.Add(1)
		return err
	}}
}

// serveReady serves e, and waits until its APIs can be called.
func serveReady(t *testing.T, registry *memory.Registry, e *echo) {
	t.Helper()
	serve(t, registry, e)
	ready(t, newBus(t, registry), "test.echo")
}

// shapes are the ways to call an RPC of the echo service.
var shapes = map[string]func(context.Context, *framework.Bus, *framework.Conn) error{
	"unary": func(ctx context.Context, bus *framework.Bus, _ *framework.Conn) error {
		_, err := testv1.NewEchoServiceClient(bus).EchoSoon(ctx, &testv1.EchoSoonRequest{})
		return err
	},
	"unary that may repeat": func(ctx context.Context, bus *framework.Bus, _ *framework.Conn) error {
		_, err := testv1.NewEchoServiceClient(bus).Echo(ctx, &testv1.EchoRequest{})
		return err
	},
	"by name": func(ctx context.Context, bus *framework.Bus, _ *framework.Conn) error {
		_, err := bus.Call(ctx, "test.echo.echo_soon", framework.Args{"text": "hi"})
		return err
	},
	"asynchronous": func(ctx context.Context, bus *framework.Bus, _ *framework.Conn) error {
		_, err := framework.CallAsync(ctx, testv1.NewEchoServiceClient(bus).EchoSoon, &testv1.EchoSoonRequest{}).Await(ctx)
		return err
	},
	"dialled": func(ctx context.Context, _ *framework.Bus, conn *framework.Conn) error {
		_, err := testv1.NewEchoServiceClient(conn).EchoSoon(ctx, &testv1.EchoSoonRequest{})
		return err
	},
	"server stream": func(ctx context.Context, bus *framework.Bus, _ *framework.Conn) error {
		stream, err := testv1.NewEchoServiceClient(bus).Watch(ctx, &testv1.WatchRequest{Count: 1})
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	},
	"client stream": func(ctx context.Context, bus *framework.Bus, _ *framework.Conn) error {
		stream, err := testv1.NewEchoServiceClient(bus).Collect(ctx)
		if err != nil {
			return err
		}
		_, err = stream.CloseAndRecv()
		return err
	},
	"stream both ways": func(ctx context.Context, _ *framework.Bus, conn *framework.Conn) error {
		stream, err := testv1.NewEchoServiceClient(conn).Chat(ctx)
		if err != nil {
			return err
		}
		_ = stream.CloseSend()
		_, err = stream.Recv()
		return err
	},
}

// intercepted are options of a bus whose calls of all shapes run through one function.
// The function gets the function that continues the call.
func intercepted(around func(ctx context.Context, conn *grpc.ClientConn, goOn func(context.Context) error) error) framework.BusOption {
	return framework.DialOptions(
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return around(ctx, conn, func(ctx context.Context) error { return invoker(ctx, method, req, reply, conn, opts...) })
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (stream grpc.ClientStream, err error) {
			err = around(ctx, conn, func(ctx context.Context) error {
				stream, err = streamer(ctx, desc, conn, method, opts...)
				return err
			})
			return stream, err
		}))
}

// dial connects to the test API.
func dial(t *testing.T, registry *memory.Registry, options ...framework.BusOption) *framework.Conn {
	t.Helper()
	conn, err := framework.Dial(registry, "test.echo", append([]framework.BusOption{quiet}, options...)...)
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

func TestACallWhoseInterceptorBringsItsOwnContextIsNotSent(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	registry := memory.New()
	serveReady(t, registry, countingRuns(&runs, status.Error(codes.Unavailable, "ran")))
	detached := intercepted(func(_ context.Context, _ *grpc.ClientConn, goOn func(context.Context) error) error {
		return goOn(context.Background())
	})
	bus, conn := newBus(t, registry, detached), dial(t, registry, detached)
	for shape, call := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			err := call(t.Context(), bus, conn)
			if status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.NotSent || !strings.Contains(err.Error(), "an interceptor replaced its context") {
				t.Errorf("the call = %v, want INTERNAL, not sent, that names the interceptor", err)
			}
			if got := runs.Load(); got != 0 {
				t.Errorf("the handler ran %d times", got)
			}
		})
	}
}

func TestAContextThatDerivesFromTheCallsIsSent(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveReady(t, registry, &echo{})
	derived := intercepted(func(ctx context.Context, _ *grpc.ClientConn, goOn func(context.Context) error) error {
		return goOn(context.WithoutCancel(ctx))
	})
	bus, conn := newBus(t, registry, derived), dial(t, registry, derived)
	for shape, call := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			if err := call(t.Context(), bus, conn); err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("the call = %v", err)
			}
		})
	}
}

// gate is a dialer whose connections can be broken. While the gate is shut, new
// connections wait.
type gate struct {
	mu     sync.Mutex
	conns  []net.Conn
	shut   chan struct{} // nil while it is open
	waited chan struct{} // one for each that waits
}

func (g *gate) dial(ctx context.Context, address string) (net.Conn, error) {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		select {
		case g.waited <- struct{}{}:
		default:
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		g.mu.Lock()
		g.conns = append(g.conns, conn)
		g.mu.Unlock()
	}
	return conn, err
}

// close breaks all connections, waits until another is dialed, and returns a function
// that opens the gate for it.
func (g *gate) close() (open func()) {
	g.mu.Lock()
	shut := make(chan struct{})
	g.shut = shut
	for _, conn := range g.conns {
		_ = conn.Close()
	}
	g.mu.Unlock()
	<-g.waited
	return func() {
		g.mu.Lock()
		g.shut = nil
		g.mu.Unlock()
		close(shut)
	}
}

func TestAnAttemptThatAnInterceptorLeftBehindIsNeverSent(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.Unknown, codes.Unavailable} {
		for shape, call := range shapes {
			t.Run(code.String()+", "+shape, func(t *testing.T) {
				t.Parallel()
				var runs atomic.Int64
				registry := memory.New()
				serveReady(t, registry, countingRuns(&runs, nil))
				var leave atomic.Bool
				left := make(chan error, 10)
				breaker := intercepted(func(ctx context.Context, _ *grpc.ClientConn, goOn func(context.Context) error) error {
					if !leave.Load() {
						return goOn(ctx)
					}
					go func() { left <- goOn(context.WithoutCancel(ctx)) }()
					return status.Error(code, "the breaker is open")
				})
				dialer := &gate{waited: make(chan struct{}, 10)}
				options := []framework.BusOption{breaker, framework.DialOptions(grpc.WithContextDialer(dialer.dial))}
				bus, conn := newBus(t, registry, options...), dial(t, registry, options...)
				if err := call(t.Context(), bus, conn); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				before := runs.Load()
				leave.Store(true)
				open := dialer.close()
				err := call(t.Context(), bus, conn)
				if status.Code(err) != code || framework.OutcomeOf(err) != framework.NotSent {
					t.Errorf("the call = %v, want %v, not sent", err, code)
				}
				open()
				if got := <-left; got == nil || !strings.Contains(got.Error(), "the call has returned to the program") {
					t.Errorf("what was left behind ended with %v", got)
				}
				if got := runs.Load() - before; got != 0 || len(left) > 0 {
					t.Errorf("the handler ran %d times, and %d more attempts were made", got, len(left))
				}
			})
		}
	}
}

func TestAnInterceptorsOwnErrorIsNoReasonToIssueACallAgain(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var runs atomic.Int64
	serveReady(t, registry, countingRuns(&runs, nil))
	for name, test := range map[string]struct {
		goesOn bool
		want   framework.Outcome
	}{
		"instead of the call": {false, framework.NotSent},
		"after a good reply":  {true, framework.Executed},
	} {
		t.Run(name, func(t *testing.T) {
			passed := 0
			bus := newBus(t, registry, intercepted(func(ctx context.Context, _ *grpc.ClientConn, goOn func(context.Context) error) error {
				passed++
				if test.goesOn {
					if err := goOn(ctx); err != nil {
						t.Error(err)
					}
				}
				return status.Error(codes.Unavailable, "of the interceptor")
			}))
			_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}) // NO_SIDE_EFFECTS
			if passed != 1 || framework.OutcomeOf(err) != test.want || status.Code(err) != codes.Unavailable {
				t.Errorf("sent %d times, the error is %v, want once and that %v", passed, err, test.want)
			}
		})
	}
}

func TestAnInterceptorsOwnCallDoesNotTakeThePlaceOfTheCall(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var runs atomic.Int64
	serveReady(t, registry, countingRuns(&runs, nil))
	// other is a connection of another bus.
	var other atomic.Pointer[grpc.ClientConn]
	elsewhere := newBus(t, registry, intercepted(func(ctx context.Context, conn *grpc.ClientConn, goOn func(context.Context) error) error {
		other.Store(conn)
		return goOn(ctx)
	}))
	ready(t, elsewhere, "test.echo")
	if _, err := testv1.NewEchoServiceClient(elsewhere).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
		t.Fatal(err)
	}
	for name, own := range map[string]func(context.Context, *grpc.ClientConn) error{
		"another method": func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := testv1.NewEchoServiceClient(conn).Echo(ctx, &testv1.EchoRequest{})
			return err
		},
		"a stream": func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := testv1.NewEchoServiceClient(conn).Collect(ctx)
			return err
		},
		"another connection": func(ctx context.Context, _ *grpc.ClientConn) error {
			_, err := testv1.NewEchoServiceClient(other.Load()).EchoSoon(ctx, &testv1.EchoSoonRequest{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var inside atomic.Bool
			bus := newBus(t, registry, intercepted(func(ctx context.Context, conn *grpc.ClientConn, goOn func(context.Context) error) error {
				if inside.Swap(true) {
					return goOn(ctx) // its own, which passes here too
				}
				if err := own(ctx, conn); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "it has the context of another call") {
					t.Errorf("the interceptor's own call = %v, want an error that says why", err)
				}
				return goOn(ctx)
			}))
			ready(t, bus, "test.echo")
			before := runs.Load()
			if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
				t.Error(err)
			}
			if got := runs.Load() - before; got != 1 {
				t.Errorf("handlers ran %d times, want the call's alone", got)
			}
		})
	}
}
