package framework_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/wire"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// serveBehind serves e behind a proxy that can cut its connections.
func serveBehind(t *testing.T, registry *memory.Registry, e *echo, options ...framework.ServeOption) *wire.Proxy {
	t.Helper()
	return serveBehindAs(t, registry, e, new(service), options...)
}

// serveBehindAs is serveBehind for a service that the test can stop.
func serveBehindAs(t *testing.T, registry *memory.Registry, e *echo, running *service, options ...framework.ServeOption) *wire.Proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := wire.Start(t)
	proxy.Forward(listener.Addr().String())
	*running = serve(t, registry, e, append([]framework.ServeOption{framework.Listener(listener), framework.AdvertiseAs(proxy.Address())}, options...)...)
	return proxy
}

// eachCut is eachShape for calls of a service behind a proxy, over TCP and over a unix
// socket. EchoSoon of the service calls handle, and counts its runs.
func eachCut(t *testing.T, handle func(ctx context.Context, c *cutting) (string, error), test func(*cutting)) {
	t.Helper()
	for way, serve := range map[string]func(*testing.T, *memory.Registry, *echo, ...framework.ServeOption) *wire.Proxy{
		"over TCP": serveBehind, "over a unix socket": serveSocketBehind,
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			eachCutBehind(t, serve, handle, test)
		})
	}
}

// eachCutBehind is eachCut for a service that serve serves.
func eachCutBehind(t *testing.T, serve func(*testing.T, *memory.Registry, *echo, ...framework.ServeOption) *wire.Proxy,
	handle func(ctx context.Context, c *cutting) (string, error), test func(*cutting),
) {
	t.Helper()
	for shape, call := range unaryShapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			c := &cutting{T: t, began: make(chan context.Context, 10), goOn: make(chan struct{}), events: new(recorder)}
			c.proxy = serve(t, registry, &echo{soon: func(ctx context.Context, _ string) (string, error) {
				c.runs.Add(1)
				c.began <- ctx
				return handle(ctx, c)
			}}, framework.Observe(c.events))
			bus, conn := newBusOf(t, registry, framework.OverNetwork()), dial(t, registry)
			if c.settle = bus.Settle; shape == "dialled" {
				c.settle = conn.Settle
			}
			ready(t, bus, "test.echo")
			if err := conn.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.call = func(ctx context.Context) <-chan result {
				returned := make(chan result, 1)
				go func() {
					text, err := call(ctx, bus, conn)
					returned <- result{text, err}
				}()
				return returned
			}
			test(c)
			if got := c.runs.Load(); got > 1 {
				t.Errorf("the handler ran %d times", got)
			}
		})
	}
}

// cutting is a call whose connection is cut.
type cutting struct {
	*testing.T

	proxy *wire.Proxy
	// call makes the call, and sends its result. settle settles it by hand.
	call   func(ctx context.Context) <-chan result
	settle func(ctx context.Context, err error, reply any) error
	runs   atomic.Int64
	events *recorder // of the service
	// began receives the contexts of handlers that began. They may wait for goOn.
	began chan context.Context
	goOn  chan struct{}
}

// result is the result of a call.
type result struct {
	text string
	err  error
}

// cutReply makes the call, and cuts its connection while the reply is on its way. The
// handler holds replies.
func (c *cutting) cutReply() result {
	c.Helper()
	returned := c.call(c.Context())
	eventually.True(c, "the reply is on its way", func() bool {
		_, held := c.proxy.Held()
		return held > 0
	})
	c.proxy.Cut()
	return eventually.Receive(c, "the reply", returned)
}

// cutRunning makes the call, and cuts its connection while the handler waits for goOn.
func (c *cutting) cutRunning() result {
	c.Helper()
	returned := c.call(c.Context())
	eventually.Receive(c, "the handler begins", c.began)
	before := c.proxy.Connections()
	c.proxy.Cut()
	eventually.True(c, "there are other connections", func() bool { return c.proxy.Connections() > before })
	close(c.goOn)
	return eventually.Receive(c, "the reply", returned)
}

// cutRequest makes the call, and cuts its connection while the request is on its way. The
// request can still be delivered.
func (c *cutting) cutRequest() result {
	c.Helper()
	c.proxy.HoldRequests()
	returned := c.call(c.Context())
	eventually.True(c, "the request is on its way", func() bool {
		held, _ := c.proxy.Held()
		return held > identityBytes
	})
	c.proxy.CutClients()
	return eventually.Receive(c, "the reply", returned)
}

// passes makes the call with a deadline that passes after it was sent, and returns its
// error.
func (c *cutting) passes() error {
	return timingOut(func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		return eventually.Receive(c, "the end of the call", c.call(ctx)).err
	})
}

func TestAReplyThatIsOnItsWayWhenTheConnectionBreaksIsKept(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"a short one": "kept", "one of 1 MiB": strings.Repeat("k", 1<<20)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachCut(t, func(_ context.Context, c *cutting) (string, error) {
				c.proxy.HoldReplies()
				return text, nil
			}, func(c *cutting) {
				if got := c.cutReply(); got.err != nil || got.text != text {
					c.Errorf("the call = %.10q, %v", got.text, got.err)
				}
			})
		})
	}
}

func TestAHandlerOutlivesTheConnectionOfItsCaller(t *testing.T) {
	t.Parallel()
	eachCut(t, func(ctx context.Context, c *cutting) (string, error) {
		<-c.goOn
		return "kept", ctx.Err()
	}, func(c *cutting) {
		if got := c.cutRunning(); got.err != nil || got.text != "kept" {
			c.Errorf("the call = %q, %v", got.text, got.err)
		}
	})
}

// identityBytes is less than what a request with an identity has, and more than frames of
// HTTP/2 that are no request.
const identityBytes = 80

// TestACallThatHasNotArrivedIsRefusedAndRetried delivers the first attempt after the
// retry.
func TestACallThatHasNotArrivedIsRefusedAndRetried(t *testing.T) {
	t.Parallel()
	eachCut(t, func(context.Context, *cutting) (string, error) { return "ran", nil }, func(c *cutting) {
		if got := c.cutRequest(); got.err != nil || got.text != "ran" {
			c.Errorf("the call = %q, %v", got.text, got.err)
		}
		c.proxy.Deliver()
		c.wantRefused()
	})
}

// wantRefused waits until the instance has refused a copy of the call.
func (c *cutting) wantRefused() {
	c.Helper()
	eventually.True(c, "a copy of the call is refused", func() bool {
		return len(observed[framework.CallRefused](c.events)) > 0
	})
	// The reset that its caller sent at the deadline may be read before it is admitted.
	if refused := observed[framework.CallRefused](c.events)[0]; refused.Reason != atmostonce.DuplicateCall && refused.Code != codes.Canceled {
		c.Errorf("the copy was refused as %+v", refused)
	}
}

func TestACallThatRunsBeyondItsDeadlineIsSettledByHand(t *testing.T) {
	t.Parallel()
	eachCut(t, func(_ context.Context, c *cutting) (string, error) {
		<-c.goOn
		return "", status.Error(codes.NotFound, "there is no such user")
	}, func(c *cutting) {
		late := c.passes()
		for len(c.began) == 0 { // on a busy machine the deadline may pass before the handler begins
			ctx, cancel := context.WithTimeout(c.Context(), eventually.AtOnce)
			if framework.OutcomeOf(c.settle(ctx, late, nil)) == framework.Refused {
				late = c.passes()
			}
			cancel()
		}
		if framework.OutcomeOf(late) != framework.Unknown {
			c.Fatalf("the call = %v, want an unknown outcome", late)
		}
		ctx, cancel := context.WithTimeout(c.Context(), short)
		defer cancel()
		if err := c.settle(ctx, late, nil); framework.OutcomeOf(err) != framework.Unknown || !errors.Is(err, context.DeadlineExceeded) {
			c.Errorf("while it runs Settle = %v, want an unknown outcome", err)
		}
		close(c.goOn)
		err := c.settle(eventually.Context(c), late, nil)
		if status.Code(err) != codes.NotFound || framework.OutcomeOf(err) != framework.Executed {
			c.Errorf("Settle = %v, want the error of the handler", err)
		}
	})
}

// TestACallThatArrivesAfterItsDeadlineIsFenced delivers the call after it was settled.
func TestACallThatArrivesAfterItsDeadlineIsFenced(t *testing.T) {
	t.Parallel()
	eachCut(t, func(context.Context, *cutting) (string, error) { return "ran", nil }, func(c *cutting) {
		c.proxy.HoldRequests()
		late := c.passes()
		for held, _ := c.proxy.Held(); held == 0; held, _ = c.proxy.Held() { // it never left a busy machine, or leaves later
			if err := c.settle(eventually.Context(c), late, nil); framework.OutcomeOf(err) != framework.Refused {
				c.Fatalf("Settle of %v = %v, want refused", late, err)
			}
			late = c.passes()
		}
		if err := c.settle(eventually.Context(c), late, nil); framework.OutcomeOf(err) != framework.Refused || status.Code(err) != codes.DeadlineExceeded {
			c.Errorf("Settle of %v = %v, want refused", late, err)
		}
		c.proxy.Deliver()
		c.wantRefused()
		if got := c.runs.Load(); got != 0 {
			c.Errorf("the handler ran %d times", got)
		}
	})
}

func TestTheCallersCancelEndsTheHandler(t *testing.T) {
	t.Parallel()
	eachCut(t, func(ctx context.Context, _ *cutting) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}, func(c *cutting) {
		ctx, cancel := context.WithCancel(c.Context())
		returned := c.call(ctx)
		handler := eventually.Receive(c, "the handler begins", c.began)
		cancel()
		eventually.Receive(c, "the end of the handler's context", handler.Done())
		if got := eventually.Receive(c, "the end of the call", returned); status.Code(got.err) != codes.Canceled || framework.OutcomeOf(got.err) != framework.Unknown {
			c.Errorf("the call = %v, want CANCELED", got.err)
		}
	})
}

// TestAnInstanceThatWasReplacedIsNotAsked lets another instance answer at the address.
func TestAnInstanceThatWasReplacedIsNotAsked(t *testing.T) {
	t.Parallel()
	other := serveBehind(t, memory.New(), &echo{})
	eachCut(t, func(ctx context.Context, _ *cutting) (string, error) {
		<-framework.Draining(ctx) // the handler outlives its connection
		return "", ctx.Err()
	}, func(c *cutting) {
		returned := c.call(c.Context())
		eventually.Receive(c, "the handler begins", c.began)
		c.proxy.Forward(other.Address())
		c.proxy.Cut()
		got := eventually.Receive(c, "the end of the call", returned)
		if framework.OutcomeOf(got.err) != framework.Unknown || !errors.Is(got.err, framework.ErrForgotten) || !strings.Contains(got.err.Error(), "another instance is at its address now") {
			c.Errorf("the call = %v, want an unknown outcome that is final", got.err)
		}
	})
}

func TestAnInstanceThatWasKilledCannotBeAsked(t *testing.T) {
	t.Parallel()
	eachCut(t, func(ctx context.Context, _ *cutting) (string, error) {
		<-framework.Draining(ctx) // the handler outlives its connection
		return "", ctx.Err()
	}, func(c *cutting) {
		returned := c.call(c.Context())
		eventually.Receive(c, "the handler begins", c.began)
		c.proxy.Close()
		got := eventually.Receive(c, "the end of the call", returned)
		if framework.OutcomeOf(got.err) != framework.Unknown || !errors.Is(got.err, framework.ErrForgotten) {
			c.Errorf("the call = %v, want an unknown outcome that is final", got.err)
		}
	})
}

// TestATokenIsOnlyForItsPrincipal settles a call of one program from another.
func TestATokenIsOnlyForItsPrincipal(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	as := func(ctx context.Context, name string) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "caller", name)
	}
	goOn := make(chan struct{})
	var runs atomic.Int64
	serveBehind(t, registry, &echo{soon: func(context.Context, string) (string, error) {
		runs.Add(1)
		<-goOn
		return "kept", nil
	}}, framework.Authenticate(func(ctx context.Context) (context.Context, error) {
		return framework.WithPrincipal(ctx, strings.Join(metadata.ValueFromIncomingContext(ctx, "caller"), "")), nil
	}))
	key := framework.TokenKey([]byte(strings.Repeat("k", 32)))
	first, second := newBus(t, registry, key), newBus(t, registry, key)
	ready(t, first, "test.echo")
	ctx, cancel := context.WithCancel(as(t.Context(), "one"))
	call := framework.CallAsync(ctx, testv1.NewEchoServiceClient(first).EchoSoon, &testv1.EchoSoonRequest{})
	eventually.True(t, "the handler begins", func() bool { return runs.Load() > 0 })
	cancel()
	_, late := call.Await(t.Context())
	close(goOn)
	token, err := framework.CallToken(late)
	if err != nil {
		t.Fatal(err)
	}
	reply := new(testv1.EchoSoonResponse)
	if err := second.SettleToken(as(eventually.Context(t), "two"), token, reply); framework.OutcomeOf(err) != framework.Unknown || !errors.Is(err, framework.ErrForgotten) {
		t.Errorf("another principal learned %v", err)
	}
	if err := second.SettleToken(as(eventually.Context(t), "one"), token, reply); err != nil || reply.GetText() != "kept" {
		t.Errorf("the principal of the call learned %v, %q", err, reply.GetText())
	}
	if got := runs.Load(); got != 1 {
		t.Errorf("the handler ran %d times", got)
	}
}

// TestALostReplyIsAskedForOverTLS has certificates on both sides, and a policy that names
// no method of the question.
func TestALostReplyIsAskedForOverTLS(t *testing.T) {
	t.Parallel()
	authority, registry := certtest.NewAuthority(t), memory.New()
	var proxy *wire.Proxy
	served := make(chan struct{})
	handle := func(context.Context, string) (string, error) {
		<-served
		proxy.HoldReplies()
		return "kept", nil
	}
	proxy = serveBehind(t, registry, &echo{soon: handle}, withTLS(named(t, authority, "test.echo")),
		framework.Authorize(framework.Policy{"test.echo.echo_soon": {"shop"}}))
	close(served)
	bus := newBus(t, registry, withTLS(named(t, authority, "shop")))
	ready(t, bus, "test.echo")
	call := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).EchoSoon, &testv1.EchoSoonRequest{})
	eventually.True(t, "the reply is on its way", func() bool {
		_, held := proxy.Held()
		return held > 0
	})
	proxy.Cut()
	if reply, err := call.Await(eventually.Context(t)); err != nil || reply.GetText() != "kept" {
		t.Errorf("the call = %q, %v, want the reply that was kept", reply.GetText(), err)
	}
}
