package framework_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// recorder is an observer that keeps events.
type recorder struct {
	mu     sync.Mutex // guards events
	events []recorded
}

// recorded is an event, and the token that byToken found.
type recorded struct {
	event framework.Event
	token string
}

func (r *recorder) Observe(ctx context.Context, event framework.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	token, _ := ctx.Value(tokenKey{}).(string)
	if seen := reservedIn(ctx); len(seen) > 0 {
		token = "the identity is visible"
	}
	r.events = append(r.events, recorded{event, token})
}

// calls returns the ends of calls at a service, without their durations.
func (r *recorder) calls() (all []recorded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, each := range r.events {
		switch event := each.event.(type) {
		case framework.CallServed:
			event.Duration = 0
			all = append(all, recorded{event, each.token})
		case framework.CallRefused:
			event.Duration = 0
			all = append(all, recorded{event, each.token})
		}
	}
	return all
}

// observed returns the events of one type, in order.
func observed[E framework.Event](r *recorder) (all []E) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, each := range r.events {
		if event, ok := each.event.(E); ok {
			all = append(all, event)
		}
	}
	return all
}

// panicking is an observer that panics with a secret.
type panicking struct{}

func (panicking) Observe(context.Context, framework.Event) { panic("the password is hunter2") }

func TestAnObserverIsNotNil(t *testing.T) {
	t.Parallel()
	_, err := framework.NewBus(memory.New(), framework.Observe(nil))
	if err == nil || !strings.Contains(err.Error(), "option Observe: the observer is nil") {
		t.Errorf("NewBus = %v", err)
	}
	err = framework.Serve(t.Context(), memory.New(), (&echo{}).register, framework.Observe(nil))
	if err == nil || !strings.Contains(err.Error(), "option Observe: the observer is nil") {
		t.Errorf("Serve = %v", err)
	}
}

func TestTheLifeOfAServiceIsObserved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events, log := new(recorder), new(testlog.Log)
		_, running, _ := inMemory(t, &echo{}, framework.Logger(log.Logger()), framework.Observe(panicking{}), framework.Observe(events))
		synctest.Wait()
		registered := observed[framework.RegistrationChanged](events)
		if len(registered) == 0 || !registered[len(registered)-1].Registered {
			t.Errorf("the registration was observed as %+v", registered)
		}
		if err := running.stop(); err != nil {
			t.Error(err)
		}
		began, ended := observed[framework.ShutdownBegan](events), observed[framework.ShutdownEnded](events)
		if len(began) != 1 || began[0].Timeout != 25*time.Second || len(ended) != 1 || ended[0].Err != nil || ended[0].Duration < 200*time.Millisecond {
			t.Errorf("the shutdown was observed as %+v, %+v", began, ended)
		}
		if log.Count("an observer panicked") == 0 || log.Count("hunter2") != 0 {
			t.Errorf("the log has not the panic, or its value:\n%s", log)
		}
	})
}

// observable fails, panics or ends its goroutine for the texts "fail", "panic" and "exit".
var observable = &echo{echo: func(_ context.Context, text string) (string, error) {
	switch text {
	case "fail":
		return "", errors.New("a secret")
	case "panic":
		panic("a secret")
	case "exit":
		runtime.Goexit()
	}
	return text, nil
}}

// byToken authenticates by the metadatum token.
func byToken(ctx context.Context) (context.Context, error) {
	token := metadata.ValueFromIncomingContext(ctx, "token")
	if len(token) != 1 {
		return nil, status.Error(codes.Unauthenticated, "who are you?")
	}
	return context.WithValue(ctx, tokenKey{}, token[0]), nil
}

func TestEachCallOfAServiceIsObservedOnce(t *testing.T) {
	t.Parallel()
	const unary, streams = "test.echo.echo", "test.echo.watch"
	text := func(text string) any { return &testv1.EchoRequest{Text: text} }
	for title, test := range map[string]struct {
		shape   string
		request any
		token   string
		want    framework.Event
	}{
		"served":            {"unary", text("x"), "ann", framework.CallServed{RPC: unary}},
		"an error":          {"unary", text("fail"), "ann", framework.CallServed{RPC: unary, Code: codes.Internal}},
		"a panic":           {"unary", text("panic"), "ann", framework.CallServed{RPC: unary, Code: codes.Internal}},
		"runtime.Goexit":    {"unary", text("exit"), "ann", framework.CallServed{RPC: unary, Code: codes.Internal}},
		"not authenticated": {"unary", text("x"), "", framework.CallRefused{RPC: unary, Code: codes.Unauthenticated}},
		"a broken rule":     {"unary", text(tooLong), "ann", framework.CallRefused{RPC: unary, Code: codes.InvalidArgument}},
		"not admitted":      {"unary", text("x"), "other", framework.CallRefused{RPC: unary, Code: codes.FailedPrecondition, Reason: atmostonce.WrongInstance}},
		"a stream":          {"server streaming", text("x"), "ann", framework.CallServed{RPC: streams, Stream: true}},
		"a stranger's":      {"server streaming", text("x"), "", framework.CallRefused{RPC: streams, Stream: true, Code: codes.Unauthenticated}},
		"a stream, unread":  {"server streaming", []byte{0xff}, "ann", framework.CallRefused{RPC: streams, Stream: true, Code: codes.Internal}},
		"an unknown method": {"unknown", text("x"), "ann", framework.CallRefused{RPC: "/onecall.test.v1.EchoService/Later", Stream: true, Code: codes.Unimplemented}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			registry, events := memory.New(), new(recorder)
			serve(t, registry, observable, framework.Observe(events), framework.Authenticate(byToken))
			_, instance := direct(t, registry)
			identity := atmostonce.Identity{Incarnation: instance.Incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1}
			if test.token == "other" {
				identity.Incarnation = discovery.NewIncarnation()
			}
			ctx := identified(t.Context(), identity)
			if test.token != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "token", test.token)
			}
			conn := dialled(t, instance.Address)
			if call := everyShape[test.shape]; call != nil {
				_ = call(ctx, conn, test.request, grpc.ForceCodec(rawCodec{}))
			} else {
				_ = conn.Invoke(ctx, "/onecall.test.v1.EchoService/Later", test.request, &testv1.EchoResponse{})
			}
			eventually.True(t, "the end of the call", func() bool { return len(events.calls()) > 0 })
			got := events.calls()
			if len(got) != 1 || got[0].event != test.want || got[0].token != test.token {
				t.Errorf("observed %+v, want once %+v with the token %q", got, test.want, test.token)
			}
		})
	}
}

// TestWithoutObserversACallAllocatesNothingForThem counts what a chain without a
// connection allocates.
func TestWithoutObserversACallAllocatesNothingForThem(t *testing.T) { //nolint:paralleltest // other goroutines allocate too
	allocations := func(options ...framework.ServeOption) float64 {
		call, end, err := framework.Chained(&testv1.EchoService_ServiceDesc, &echo{}, append(options, quiet)...)
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		ctx, decode := t.Context(), func(any) error { return nil }
		return testing.AllocsPerRun(1000, func() {
			if err := call(ctx, decode); err != nil {
				t.Error(err)
			}
		})
	}
	// The allocations of generated code with its messages, and of admission.
	const most = 6
	without, with := allocations(), allocations(framework.Observe(new(ignoring)))
	if without > most || with <= without {
		t.Errorf("a call allocates %v times without an observer, want %d at most, and %v with one", without, most, with)
	}
}

// ignoring is an observer that does nothing.
type ignoring struct{}

func (*ignoring) Observe(context.Context, framework.Event) {}
