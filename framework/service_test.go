package framework_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(serveEnv); endpoint != "" {
		os.Exit(serveAlone(endpoint))
	}
	if os.Getenv(signalEnv) != "" {
		os.Exit(serveUntilSignal())
	}
	code := m.Run()
	if err := cluster.Leaks(); code == 0 && err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		code = 1
	}
	os.Exit(code)
}

// What tests log to that do not read the log.
var (
	discard = slog.New(slog.DiscardHandler)
	quiet   = framework.Logger(discard)
)

// echo serves the test APIs. If one of its functions is set, the RPC of that name runs
// it.
type echo struct {
	testv1.UnimplementedEchoServiceServer
	testv1.UnimplementedPlainServiceServer

	echo  func(context.Context, string) (string, error)
	soon  func(context.Context, string) (string, error)
	ping  func(context.Context, string) (string, error)
	watch func(testv1.EchoService_WatchServer) error
}

func run(ctx context.Context, do func(context.Context, string) (string, error), text string) (string, error) {
	if do == nil {
		return text, nil
	}
	return do(ctx, text)
}

func (e *echo) Echo(ctx context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	text, err := run(ctx, e.echo, req.GetText())
	return &testv1.EchoResponse{Text: text}, err
}

func (e *echo) EchoSoon(ctx context.Context, req *testv1.EchoSoonRequest) (*testv1.EchoSoonResponse, error) {
	text, err := run(ctx, e.soon, req.GetText())
	return &testv1.EchoSoonResponse{Text: text}, err
}

func (e *echo) Ping(ctx context.Context, req *testv1.PingRequest) (*testv1.PingResponse, error) {
	text, err := run(ctx, e.ping, req.GetText())
	return &testv1.PingResponse{Text: text}, err
}

func (e *echo) Watch(req *testv1.WatchRequest, stream testv1.EchoService_WatchServer) error {
	if e.watch != nil {
		return e.watch(stream)
	}
	for range req.GetCount() {
		if err := stream.Send(&testv1.WatchResponse{Text: req.GetText()}); err != nil {
			return err
		}
	}
	return nil
}

func (e *echo) Collect(stream testv1.EchoService_CollectServer) error {
	var texts []string
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&testv1.CollectResponse{Texts: texts})
		}
		if err != nil {
			return err
		}
		texts = append(texts, req.GetText())
	}
}

func (e *echo) Chat(stream testv1.EchoService_ChatServer) error {
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testv1.ChatResponse{Text: req.GetText()}); err != nil {
			return err
		}
	}
}

// register registers both of its APIs.
func (e *echo) register(apis grpc.ServiceRegistrar) {
	testv1.RegisterEchoServiceServer(apis, e)
	testv1.RegisterPlainServiceServer(apis, e)
}

// service is a Serve that runs.
type service struct {
	registry *memory.Registry // nil for one that serveAny began
	// stop ends it and returns what Serve returned.
	stop func() error
}

// serve serves e until the test ends, on loopback unless options say otherwise.
func serve(t *testing.T, registry *memory.Registry, e *echo, options ...framework.ServeOption) service {
	t.Helper()
	running := serveAny(t, registry, e.register, options...)
	running.registry = registry
	return running
}

// serveAny serves what register registers until the test ends. An error of Serve
// fails the test, unless the test itself stopped it.
func serveAny(tb testing.TB, registry discovery.Registry, register func(grpc.ServiceRegistrar), options ...framework.ServeOption) service {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		returned <- framework.Serve(ctx, registry, register, append([]framework.ServeOption{quiet}, options...)...)
	}()
	var stopped atomic.Bool
	stop := sync.OnceValue(func() error {
		stopped.Store(true)
		cancel()
		return <-returned
	})
	tb.Cleanup(func() {
		byTest := stopped.Load()
		if err := stop(); err != nil && !byTest {
			tb.Error(err)
		}
	})
	return service{stop: stop}
}

// newBus returns a bus for the length of the test. A test that does not say how its calls go
// means the network, unless the tests are run for another way: see ways.
func newBus(tb testing.TB, registry discovery.Registry, options ...framework.BusOption) *framework.Bus {
	tb.Helper()
	return newBusOf(tb, registry, slices.Concat(chosen().bus, options)...)
}

// newBusOf is newBus without a way: its calls go as they do for a program.
func newBusOf(tb testing.TB, registry discovery.Registry, options ...framework.BusOption) *framework.Bus {
	tb.Helper()
	bus, err := framework.NewBus(registry, append([]framework.BusOption{quiet}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := bus.Close(); err != nil {
			tb.Error(err)
		}
	})
	return bus
}

// ready waits until the bus can call the APIs.
func ready(tb testing.TB, bus *framework.Bus, apis ...string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), eventually.Limit)
	defer cancel()
	if err := bus.Ready(ctx, apis...); err != nil {
		tb.Fatal(err)
	}
}

// busInMemory serves e in a kit and returns the bus that calls it, for tests with fake time.
func busInMemory(t *testing.T, e *echo, options ...framework.ServeOption) *framework.Bus {
	t.Helper()
	return frameworktest.New(t, e.register, frameworktest.ServeOptions(options...)).Bus()
}

// inMemory serves e without a network and returns a bus that calls it, for tests with
// fake time.
func inMemory(t *testing.T, e *echo, options ...framework.ServeOption) (*framework.Bus, service, *bufconn.Listener) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	registry := memory.New()
	options = append(options, framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"))
	running := serve(t, registry, e, options...)
	bus := newBus(t, registry, framework.DialOptions(
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })))
	ready(t, bus, "test.echo")
	return bus, running, listener
}
