package framework_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/wire"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// shared is a server whose handlers go on to use their messages after they returned, until
// stop is closed.
type shared struct {
	testv1.UnimplementedEchoServiceServer

	received chan struct{} // the caller has the reply
	stop     chan struct{}
	running  sync.WaitGroup
}

func (s *shared) Echo(_ context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	reply := &testv1.EchoResponse{Text: req.GetText()}
	s.running.Go(func() {
		<-s.received
		for {
			select {
			case <-s.stop:
				return
			default:
				req.Text += "x"
				reply.Text += "y"
				runtime.Gosched()
				req.Text, reply.Text = req.GetText()[:1], reply.GetText()[:1]
			}
		}
	})
	return reply, nil
}

func (s *shared) Chat(stream testv1.EchoService_ChatServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	reply := &testv1.ChatResponse{Text: req.GetText()}
	if err := stream.Send(reply); err != nil {
		return err
	}
	req.Text, reply.Text = "changed", "changed"
	_, err = stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// TestNoEndSharesMemoryWithTheOther has both ends change their messages after they
// passed them on. The race detector sees memory that they share.
func TestNoEndSharesMemoryWithTheOther(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, w way) {
		t.Helper()
		registry, s := memory.New(), &shared{received: make(chan struct{}), stop: make(chan struct{})}
		serveAny(t, registry, func(apis grpc.ServiceRegistrar) { testv1.RegisterEchoServiceServer(apis, s) })
		bus := newBusOf(t, registry, w.bus...)
		ready(t, bus, "test.echo")
		client := testv1.NewEchoServiceClient(bus)
		for range 20 {
			request := &testv1.EchoRequest{Text: "a"}
			reply, err := client.Echo(t.Context(), request)
			if err != nil || reply.GetText() != "a" || request.GetText() != "a" {
				t.Fatalf("reply %v, request %v, %v", reply, request, err)
			}
			s.received <- struct{}{}
			request.Text, reply.Text = "changed", "changed"
		}
		close(s.stop)
		s.running.Wait()
		chat, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		said := &testv1.ChatRequest{Text: "a"}
		if err := chat.Send(said); err != nil {
			t.Fatal(err)
		}
		said.Text = "changed"
		if reply, err := chat.Recv(); err != nil || reply.GetText() != "a" {
			t.Fatal(reply, err)
		}
		_ = chat.CloseSend()
		if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	})
}

// TestACallerThatLeftMayChangeItsRequest cancels calls whose handlers read their requests.
func TestACallerThatLeftMayChangeItsRequest(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		entered, read := make(chan struct{}), make(chan string, 1)
		goOn := make(chan struct{})
		w := newWorld(t, over, &echo{soon: func(_ context.Context, text string) (string, error) {
			close(entered)
			<-goOn
			read <- text
			return text, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-entered
			cancel()
		}()
		request := &testv1.EchoSoonRequest{Text: "a"}
		if _, err := w.client.EchoSoon(ctx, request); status.Code(err) != codes.Canceled {
			t.Fatal(err)
		}
		request.Text = "changed"
		close(goOn)
		if got := <-read; got != "a" {
			t.Errorf("the handler read %q", got)
		}
	})
}

// TestAHandlerCallsItsOwnProcess nests calls deeper than any pool could be wide.
func TestAHandlerCallsItsOwnProcess(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		var w *world
		w = newWorld(t, over, &echo{echo: func(ctx context.Context, text string) (string, error) {
			w.taken(ctx)
			if len(text) >= 100 {
				return text, nil
			}
			reply, err := w.client.Echo(ctx, &testv1.EchoRequest{Text: text + "x"})
			return reply.GetText(), err
		}})
		if reply, err := w.client.Echo(t.Context(), &testv1.EchoRequest{Text: "x"}); err != nil || len(reply.GetText()) != 100 {
			t.Error(reply, err)
		}
	})
}

// TestAThousandCallersCallAtOnce lets handlers return once all calls are under way.
func TestAThousandCallersCallAtOnce(t *testing.T) {
	t.Parallel()
	const callers = 1000
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		var arrived atomic.Int64
		all := make(chan struct{})
		w := newWorld(t, over, &echo{soon: func(_ context.Context, text string) (string, error) {
			if arrived.Add(1) == callers {
				close(all)
			}
			<-all
			return text, nil
		}}, framework.MaxCallsPerConnection(2*callers)) // of which the watches of health are some
		var calling sync.WaitGroup
		for i := range callers {
			calling.Go(func() {
				text := strconv.Itoa(i)
				if reply, err := w.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: text}); err != nil || reply.GetText() != text {
					t.Error(reply, err)
				}
			})
		}
		calling.Wait()
		if got := arrived.Load(); got != callers {
			t.Errorf("%d handlers ran, want %d", got, callers)
		}
	})
}

// TestAFullServerShedsOverEachWay has a service with room for one call, and then another
// service beside it.
func TestAFullServerShedsOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry := memory.New()
		entered, leave := make(chan struct{}, 2), make(chan struct{})
		hold := &echo{soon: func(_ context.Context, text string) (string, error) {
			entered <- struct{}{}
			<-leave
			return text, nil
		}}
		start(t, registry, hold, framework.MaxInFlight(1))
		bus := newBusOf(t, registry, over.bus...)
		ready(t, bus, "test.echo")
		client := testv1.NewEchoServiceClient(bus)
		first := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{Text: "first"})
		<-entered
		_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		if status.Code(err) != codes.ResourceExhausted || framework.OutcomeOf(err) != framework.Refused {
			t.Errorf("a call of a full instance = %v, outcome %v", err, framework.OutcomeOf(err))
		}
		start(t, registry, &echo{})
		eventually.True(t, "a call goes to the other instance", func() bool {
			reply, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: "second"})
			return err == nil && reply.GetText() == "second"
		})
		close(leave)
		if reply, err := first.Await(t.Context()); err != nil || reply.GetText() != "first" {
			t.Error(reply, err)
		}
	})
}

// TestAShutdownWaitsForCallsOfEachWay stops a service while calls are under way.
func TestAShutdownWaitsForCallsOfEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry := memory.New()
		entered, draining := make(chan struct{}, 2), make(chan struct{}, 2)
		hold := func(ctx context.Context) {
			entered <- struct{}{}
			<-framework.Draining(ctx)
			draining <- struct{}{}
		}
		e := &echo{
			soon: func(ctx context.Context, text string) (string, error) { hold(ctx); return text, nil },
			watch: func(stream testv1.EchoService_WatchServer) error {
				hold(stream.Context())
				return stream.Send(&testv1.WatchResponse{Text: "last"})
			},
		}
		service := start(t, registry, e)
		bus := newBusOf(t, registry, over.bus...)
		ready(t, bus, "test.echo")
		client := testv1.NewEchoServiceClient(bus)
		call := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{Text: "kept"})
		stream, err := client.Watch(t.Context(), &testv1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		<-entered
		<-entered
		if err := service.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		<-draining
		if reply, err := call.Await(t.Context()); err != nil || reply.GetText() != "kept" {
			t.Errorf("a call under way = %v, %v", reply, err)
		}
		if reply, err := stream.Recv(); err != nil || reply.GetText() != "last" {
			t.Errorf("a stream under way = %v, %v", reply, err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the end of the stream = %v", err)
		}
		_, err = client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		if outcome := framework.OutcomeOf(err); err == nil || outcome != framework.NotSent {
			t.Errorf("a call of the stopped service = %v, outcome %v", err, outcome)
		}
	})
}

// TestAShutdownCutsCallsOfEachWay stops a service whose handlers do not return in time.
func TestAShutdownCutsCallsOfEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry := memory.New()
		entered, ended := make(chan struct{}, 2), make(chan error, 2)
		hold := func(ctx context.Context) error {
			entered <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
		e := &echo{
			soon:  func(ctx context.Context, _ string) (string, error) { return "", hold(ctx) },
			watch: func(stream testv1.EchoService_WatchServer) error { return hold(stream.Context()) },
		}
		service, err := framework.Start(context.Background(), registry, e.register, quiet, framework.ShutdownTimeout(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		bus := newBusOf(t, registry, over.bus...)
		ready(t, bus, "test.echo")
		client := testv1.NewEchoServiceClient(bus)
		call := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{})
		stream, err := client.Watch(t.Context(), &testv1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		<-entered
		<-entered
		if err := service.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "test.echo.echo_soon") {
			t.Errorf("Stop = %v, want that the call was cut off", err)
		}
		_, err = call.Await(t.Context())
		// The bus may have asked what became of it.
		if outcome := framework.OutcomeOf(err); err == nil || outcome != framework.Unknown && outcome != framework.Executed {
			t.Errorf("a call that was cut off = %v, outcome %v", err, framework.OutcomeOf(err))
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("a stream that was ended = %v", err)
		}
		if err := errors.Join(<-ended, <-ended); err == nil {
			t.Error("the contexts of handlers have not ended")
		}
	})
}

// TestServicesTakeTurnsDuringCalls stops a service and starts another one in its place,
// again and again, while calls are made. No call may run twice, and each must succeed.
func TestServicesTakeTurnsDuringCalls(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry := memory.New()
		var runs sync.Map // of *atomic.Int64
		e := &echo{soon: func(_ context.Context, text string) (string, error) {
			count, _ := runs.LoadOrStore(text, new(atomic.Int64))
			count.(*atomic.Int64).Add(1)
			return text, nil
		}}
		service := start(t, registry, e)
		buses := []*framework.Bus{newBusOf(t, registry, over.bus...), newBusOf(t, registry, over.bus...)}
		ctx, cancel := context.WithCancel(t.Context())
		var calling sync.WaitGroup
		for n, bus := range buses {
			ready(t, bus, "test.echo")
			client := testv1.NewEchoServiceClient(bus)
			for i := range 4 {
				calling.Go(func() {
					for call := 0; ctx.Err() == nil; call++ {
						text := fmt.Sprint(n, i, call)
						reply, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: text}, grpc.WaitForReady(true))
						count, ran := runs.Load(text)
						if err != nil || reply.GetText() != text || !ran || count.(*atomic.Int64).Load() != 1 {
							t.Errorf("call %s = %v, %v, outcome %v, ran %v", text, reply, err, framework.OutcomeOf(err), count)
							return
						}
					}
				})
			}
		}
		for range 5 {
			next := start(t, registry, e)
			if err := service.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			service = next
		}
		cancel()
		calling.Wait()
	})
}

// TestTwoServicesOfAProcessAreBothCalled has two instances of an API in this process.
func TestTwoServicesOfAProcessAreBothCalled(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry := memory.New()
		var counts [2]atomic.Int64
		for i := range counts {
			start(t, registry, &echo{echo: func(_ context.Context, text string) (string, error) {
				counts[i].Add(1)
				return text, nil
			}})
		}
		client := testv1.NewEchoServiceClient(newBusOf(t, registry, over.bus...))
		eventually.True(t, "both are called", func() bool {
			if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
				t.Error(err)
			}
			return counts[0].Load() > 0 && counts[1].Load() > 0
		})
	})
}

// TestAStoppedServiceIsNotKept stops a service whose bus lives on.
func TestAStoppedServiceIsNotKept(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry := memory.New()
		bus := newBusOf(t, registry, over.bus...)
		kept := func() weak.Pointer[echo] {
			e := new(echo)
			service, err := framework.Start(context.Background(), registry, e.register, quiet)
			if err != nil {
				t.Fatal(err)
			}
			ready(t, bus, "test.echo")
			if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
				t.Fatal(err)
			}
			if err := service.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			return weak.Make(e)
		}()
		eventually.True(t, "the service is collected", func() bool {
			runtime.GC()
			return kept.Value() == nil
		})
	})
}

// TestAClosedBusEndsItsCalls closes a bus while its calls are under way.
func TestAClosedBusEndsItsCalls(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry := memory.New()
		entered, leave := make(chan struct{}, 2), make(chan struct{})
		e := &echo{
			soon: func(_ context.Context, text string) (string, error) { entered <- struct{}{}; <-leave; return text, nil },
			watch: func(stream testv1.EchoService_WatchServer) error {
				entered <- struct{}{}
				<-stream.Context().Done()
				return nil
			},
		}
		start(t, registry, e)
		bus := newBusOf(t, registry, over.bus...)
		ready(t, bus, "test.echo")
		client := testv1.NewEchoServiceClient(bus)
		call := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{})
		stream, err := client.Watch(t.Context(), &testv1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		<-entered
		<-entered
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
		if _, err := call.Await(t.Context()); status.Code(err) != codes.Canceled || framework.OutcomeOf(err) != framework.Unknown {
			t.Errorf("a call of a closed bus = %v, outcome %v", err, framework.OutcomeOf(err))
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Errorf("a stream of a closed bus = %v", err)
		}
		close(leave)
	})
}

// TestALostReplyIsSettledOverEachWay cancels a call, and asks for its reply.
func TestALostReplyIsSettledOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		entered, leave := make(chan struct{}), make(chan struct{})
		w := newWorld(t, over, &echo{soon: func(_ context.Context, text string) (string, error) { close(entered); <-leave; return text, nil }})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-entered
			cancel()
		}()
		_, err := w.client.EchoSoon(ctx, &testv1.EchoSoonRequest{Text: "kept"})
		close(leave)
		if framework.OutcomeOf(err) != framework.Unknown {
			t.Fatal(err)
		}
		reply := new(testv1.EchoSoonResponse)
		asking, stop := context.WithTimeout(t.Context(), 30*time.Second) // the bus asks until it knows
		defer stop()
		if err := w.bus.Settle(asking, err, reply); err != nil || reply.GetText() != "kept" {
			t.Errorf("the settled call = %v, %v", reply, err)
		}
	})
}

// TestTheCallerIsTheSameOverEachWay compares who the caller is to a service with TLS.
func TestTheCallerIsTheSameOverEachWay(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		var w *world
		w = newWorld(t, over, &echo{echo: func(ctx context.Context, _ string) (string, error) {
			w.taken(ctx)
			return framework.PrincipalOf(ctx), nil
		}}, withTLS(named(t, authority, "test.echo", "onecall.test.v1.PlainService", "shop")))
		if reply, err := w.client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil || reply.GetText() != "test.echo" {
			t.Errorf("the principal is %q, %v", reply.GetText(), err)
		}
	})
}

// statsHandler does nothing.
type statsHandler struct{}

func (statsHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (statsHandler) HandleRPC(context.Context, stats.RPCStats)                         {}
func (statsHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (statsHandler) HandleConn(context.Context, stats.ConnStats)                       {}

// tokens are credentials of calls.
type tokens struct{ credentials.PerRPCCredentials }

func (tokens) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"token": "x"}, nil
}
func (tokens) RequireTransportSecurity() bool { return false }

// ownListener is a listener of a program.
type ownListener struct{ net.Listener }

// TestWhatOnlyAConnectionCanDoGoesOverIt has options that the network alone can honour, and
// things between the two ends.
func TestWhatOnlyAConnectionCanDoGoesOverIt(t *testing.T) {
	t.Parallel()
	listen := func(t *testing.T) net.Listener {
		t.Helper()
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return listener
	}
	behind := func(t *testing.T) []framework.ServeOption {
		t.Helper()
		listener, proxy := listen(t), wire.Start(t)
		proxy.Forward(listener.Addr().String())
		return []framework.ServeOption{framework.Listener(listener), framework.AdvertiseAs(proxy.Address())}
	}
	for name, test := range map[string]struct {
		serve func(t *testing.T) []framework.ServeOption
		bus   []framework.BusOption
		opts  []grpc.CallOption
		local bool
	}{
		"nothing": {local: true},
		"an own TCP listener": {serve: func(t *testing.T) []framework.ServeOption {
			t.Helper()
			return []framework.ServeOption{framework.Listener(listen(t))}
		}, local: true},
		"a listener of the program": {serve: func(t *testing.T) []framework.ServeOption {
			t.Helper()
			return []framework.ServeOption{framework.Listener(ownListener{listen(t)}), framework.AdvertiseAs("127.0.0.1:0")}
		}},
		"a proxy in between": {serve: behind},
		"a stats handler of the service": {serve: func(*testing.T) []framework.ServeOption {
			return []framework.ServeOption{framework.ServerOptions(grpc.StatsHandler(statsHandler{}))}
		}},
		"a stats handler of the bus": {bus: []framework.BusOption{framework.DialOptions(grpc.WithStatsHandler(statsHandler{}))}},
		"credentials of calls":       {bus: []framework.BusOption{framework.DialOptions(grpc.WithPerRPCCredentials(tokens{}))}},
		"a dialer": {bus: []framework.BusOption{framework.DialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}))}},
		"credentials of a call":   {opts: []grpc.CallOption{grpc.PerRPCCredentials(tokens{})}},
		"another subtype":         {opts: []grpc.CallOption{grpc.CallContentSubtype("proto")}},
		"the option of the bus":   {bus: []framework.BusOption{framework.OverNetwork()}},
		"options that do nothing": {opts: []grpc.CallOption{grpc.EmptyCallOption{}, framework.Timeout(time.Minute), grpc.WaitForReady(true)}, local: true},
		"an interceptor of the bus": {bus: []framework.BusOption{framework.DialOptions(grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(ctx, method, req, reply, conn, opts...)
		}))}, local: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			var carried atomic.Value
			var options []framework.ServeOption
			if test.serve != nil {
				options = test.serve(t)
			}
			start(t, registry, &echo{echo: func(ctx context.Context, text string) (string, error) {
				carried.Store(carrier(ctx))
				return text, nil
			}}, options...)
			bus := newBusOf(t, registry, test.bus...)
			ready(t, bus, "test.echo")
			if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}, test.opts...); err != nil {
				t.Fatal(err)
			}
			if got := carried.Load(); strings.Contains(fmt.Sprint(got), "inprocess") != test.local {
				t.Errorf("the call came with a %v", got)
			}
		})
	}
}

// TestTheKitsCallsPassItsFaults shows that no call of the kit passes by where its faults
// strike.
func TestTheKitsCallsPassItsFaults(t *testing.T) {
	t.Parallel()
	var carried atomic.Value
	kit := frameworktest.New(t, (&echo{echo: func(ctx context.Context, text string) (string, error) {
		carried.Store(carrier(ctx))
		return text, nil
	}}).register)
	if _, err := testv1.NewEchoServiceClient(kit.Bus()).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(carried.Load()); !strings.Contains(got, "transport.") {
		t.Errorf("the call came with a %s", got)
	}
}

// TestAConnectionsLimitOfCallsHoldsWithoutIt holds as many calls as a connection may have.
func TestAConnectionsLimitOfCallsHoldsWithoutIt(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	entered, leave := make(chan string, 2), make(chan struct{})
	start(t, registry, &echo{soon: func(ctx context.Context, text string) (string, error) {
		entered <- carrier(ctx)
		<-leave
		return text, nil
	}}, framework.MaxCallsPerConnection(2)) // one of which is the watch of health
	bus := newBusOf(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	var calls []*framework.Call[testv1.EchoSoonResponse]
	for _, want := range []string{"inprocess", "inprocess", "transport"} {
		calls = append(calls, framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{}))
		if got := <-entered; !strings.Contains(got, want) {
			t.Errorf("the call came with a %s, want %s", got, want)
		}
	}
	close(leave)
	for _, call := range calls {
		if _, err := call.Await(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestAStreamHoldsABoundedNumberOfBytes has a caller send more than its handler reads, and
// a handler send more than its caller reads.
func TestAStreamHoldsABoundedNumberOfBytes(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		var sent atomic.Int64
		w := newWorld(t, over, &echo{watch: func(stream testv1.EchoService_WatchServer) error {
			for range 1000 {
				if err := stream.Send(&testv1.WatchResponse{Text: strings.Repeat("x", 10_000)}); err != nil {
					return err
				}
				sent.Add(1)
			}
			return nil
		}}, framework.StreamWindow(64<<10))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := w.client.Watch(ctx, &testv1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		// Wait until the handler stands still.
		last := int64(-1)
		eventually.True(t, "the handler waits for the caller", func() bool {
			now := sent.Load()
			same := now == last && now > 0
			last = now
			time.Sleep(20 * time.Millisecond)
			return same
		})
		if got := sent.Load(); got > 100 {
			t.Errorf("%d messages were sent, and none read", got)
		}
		for range 50 {
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestNoGoroutineIsLeftOver ends calls in each manner, and looks for goroutines.
func TestNoGoroutineIsLeftOver(t *testing.T) {
	registry := memory.New()
	service := start(t, registry, &echo{
		soon:  func(ctx context.Context, text string) (string, error) { <-ctx.Done(); return text, nil },
		watch: func(stream testv1.EchoService_WatchServer) error { <-stream.Context().Done(); return nil },
	})
	bus := newBusOf(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	for range 20 {
		ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "a", "b"))
		_, _ = client.EchoSoon(ctx, &testv1.EchoSoonRequest{}, framework.Timeout(10*time.Millisecond))
		stream, err := client.Watch(ctx, &testv1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = client.Collect(ctx)
		cancel()
		if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	}
	if err := errors.Join(bus.Close(), service.Stop(t.Context())); err != nil {
		t.Error(err)
	}
	eventually.True(t, "no goroutine of a call is left", func() bool {
		stacks := make([]byte, 8<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "internal/inprocess.(")
	})
}

// TestAnUnhealthyInstanceIsNotCalledOverEachWay has a health service of the program's own.
func TestAnUnhealthyInstanceIsNotCalledOverEachWay(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, over way) {
		t.Helper()
		registry, own := memory.New(), health.NewServer()
		serveAny(t, registry, func(apis grpc.ServiceRegistrar) {
			(&echo{}).register(apis)
			grpc_health_v1.RegisterHealthServer(apis, own)
		})
		bus := newBusOf(t, registry, over.bus...)
		ready(t, bus, "test.echo")
		client := testv1.NewEchoServiceClient(bus)
		call := func() error {
			_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
			return err
		}
		own.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		eventually.True(t, "the instance is not called", func() bool { return status.Code(call()) == codes.Unavailable })
		own.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
		eventually.True(t, "the instance is called again", func() bool { return call() == nil })
	})
}

// TestACallOverALinkHasItsDeadlineAtTheCaller has an interceptor look at the context that the
// caller waits with. Over the network, grpc-go sets the deadline later.
func TestACallOverALinkHasItsDeadlineAtTheCaller(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	var limited atomic.Bool
	bus := newBusOf(t, registry, framework.DialOptions(grpc.WithUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			_, ok := ctx.Deadline()
			limited.Store(ok)
			return invoke(ctx, method, req, reply, conn, opts...)
		})))
	ready(t, bus, "test.echo")
	if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil || !limited.Load() {
		t.Errorf("the call has a deadline: %v, %v", limited.Load(), err)
	}
}

// TestALinkGoesWhenItsBusIsIdle has a bus whose connections end soon after the last call over
// them. Calls over links do not keep them, so a call must take the network again.
func TestALinkGoesWhenItsBusIsIdle(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	carried := make(chan string, 1)
	start(t, registry, &echo{echo: func(ctx context.Context, text string) (string, error) {
		carried <- carrier(ctx)
		return text, nil
	}})
	bus := newBusOf(t, registry, framework.DialOptions(grpc.WithIdleTimeout(20*time.Millisecond)))
	client := testv1.NewEchoServiceClient(bus)
	for _, way := range []string{"transport", "inprocess", "transport", "inprocess"} {
		eventually.True(t, "a call over "+way, func() bool {
			if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
				t.Error(err)
			}
			return strings.Contains(<-carried, way)
		})
	}
}
