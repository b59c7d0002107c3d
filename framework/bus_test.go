package framework_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

func TestGeneratedClientsCallThroughABus(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	bus := newBus(t, registry)
	ready(t, bus, "test.echo", "onecall.test.v1.PlainService")

	client := testv1.NewEchoServiceClient(bus)
	reply, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: "one"})
	if err != nil || reply.GetText() != "one" {
		t.Errorf("Echo = %v, %v", reply, err)
	}
	pong, err := testv1.NewPlainServiceClient(bus).Ping(t.Context(), &testv1.PingRequest{Text: "two"})
	if err != nil || pong.GetText() != "two" {
		t.Errorf("Ping of a service without options = %v, %v", pong, err)
	}

	watch, err := client.Watch(t.Context(), &testv1.WatchRequest{Text: "three", Count: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		reply, err := watch.Recv()
		if i < 3 && (err != nil || reply.GetText() != "three") || i == 3 && err != io.EOF {
			t.Errorf("message %d of Watch = %v, %v", i, reply, err)
		}
	}
	collect, err := client.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "b"} {
		if err := collect.Send(&testv1.CollectRequest{Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	if collected, err := collect.CloseAndRecv(); err != nil || strings.Join(collected.GetTexts(), "") != "ab" {
		t.Errorf("Collect = %v, %v", collected, err)
	}
	chat, err := client.Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := chat.Send(&testv1.ChatRequest{Text: "four"}); err != nil {
		t.Fatal(err)
	}
	if said, err := chat.Recv(); err != nil || said.GetText() != "four" {
		t.Errorf("Chat = %v, %v", said, err)
	}
	if err := chat.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := chat.Recv(); err != io.EOF {
		t.Errorf("the end of Chat = %v", err)
	}
}

func TestABusKeepsOneSetOfConnectionsAnAPI(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	for range 2 {
		serve(t, registry, &echo{})
	}
	bus := newBus(t, registry)
	discoverytest.Watch(t, registry, "test.echo").Until(t, "two instances", func(s discovery.Snapshot) bool { return len(s.Instances) == 2 })

	// Each connection has a local port of its own.
	var mu sync.Mutex
	calls := make(map[string]map[string]int) // by instance, by local port
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			client := testv1.NewEchoServiceClient(bus)
			for range 8 {
				var p peer.Peer
				if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}, grpc.Peer(&p)); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if calls[p.Addr.String()] == nil {
					calls[p.Addr.String()] = make(map[string]int)
				}
				calls[p.Addr.String()][p.LocalAddr.String()]++
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	if len(calls) != 2 {
		t.Errorf("calls went to %d instances, want 2: %v", len(calls), calls)
	}
	for instance, ports := range calls {
		if len(ports) != 1 {
			t.Errorf("instance %s was called over %d connections, want 1", instance, len(ports))
		}
	}
}

// fixed is a registry that notifies each watch of one snapshot, always the same.
type fixed struct{ snapshot discovery.Snapshot }

func (fixed) Register(...discovery.Instance) (discovery.Registration, error) {
	return nil, errors.New("nothing can be registered here")
}

func (fixed) Descriptors(context.Context, discovery.Instance) (string, error) { return "", nil }

func (r fixed) Watch(api string, observer func(discovery.Snapshot)) func() {
	snapshot := r.snapshot
	snapshot.API = api
	observer(snapshot)
	return func() {}
}

// silent is a registry that never notifies its watches.
type silent struct{ fixed }

func (silent) Watch(string, func(discovery.Snapshot)) func() { return func() {} }

func TestACallThatFindsNoInstanceSaysWhy(t *testing.T) {
	t.Parallel()
	unreachable := &discovery.UnreachableError{Registry: "etcd at http://10.0.0.9:2379", Since: time.Unix(0, 0), Cause: errors.New("connection refused")}
	type test struct {
		registry discovery.Registry
		code     codes.Code
		is       func(error) bool
		says     string
	}
	for name, test := range map[string]test{
		"it was never served": {
			fixed{discovery.Snapshot{KnownAPIs: []string{"auth"}}},
			codes.Unimplemented,
			func(err error) bool { return errors.As(err, new(*discovery.UnknownAPIError)) },
			`: unknown API "test.echo"`,
		},
		"it is not served now": {
			fixed{discovery.Snapshot{Known: true}},
			codes.Unavailable,
			func(err error) bool { return errors.As(err, new(*discovery.NoInstanceError)) },
			`: API "test.echo" has no instance`,
		},
		"all instances are draining": {
			fixed{discovery.Snapshot{Known: true, Instances: []discovery.Instance{{Address: "10.0.0.1:1", State: discovery.Draining}}}},
			codes.Unavailable,
			func(err error) bool { return errors.As(err, new(*discovery.NoInstanceError)) },
			"its one registered instance is draining",
		},
		"the registry is away": {
			fixed{discovery.Snapshot{Unreachable: unreachable}},
			codes.Unavailable,
			func(err error) bool { return errors.Is(err, error(unreachable)) },
			"the registry can't be reached: etcd at http://10.0.0.9:2379, since 1970",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bus := newBus(t, test.registry)
			client := testv1.NewEchoServiceClient(bus)
			check := func(call string, err error) {
				t.Helper()
				if status.Code(err) != test.code || !test.is(err) || !strings.Contains(err.Error(), test.says) || !strings.HasPrefix(err.Error(), "test.echo."+strings.ToLower(call)+": ") {
					t.Errorf("%s = %v (%v), want %v that says %q", call, err, status.Code(err), test.code, test.says)
				}
			}
			start := time.Now()
			for range 2 {
				_, err := client.Echo(t.Context(), &testv1.EchoRequest{})
				check("Echo", err)
			}
			_, err := client.Chat(t.Context())
			if err != nil { // a stream returns it at the latest from RecvMsg
				check("Chat", err)
			} else {
				t.Error("a stream began without an instance")
			}
			if took := time.Since(start); took > eventually.AtOnce {
				t.Errorf("three refusals took %v", took)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if err := bus.Ready(ctx, "test.echo"); status.Code(err) != codes.DeadlineExceeded || !test.is(err) {
				t.Errorf("Ready = %v, want DEADLINE_EXCEEDED for the same reason", err)
			}
			_, err = client.Echo(ctx, &testv1.EchoRequest{}, grpc.WaitForReady(true))
			if status.Code(err) != codes.DeadlineExceeded || !test.is(err) {
				t.Errorf("Echo that waits = %v, want DEADLINE_EXCEEDED for the same reason", err)
			}
		})
	}
}

func TestACallOnASilentRegistryEndsByItsDeadlineAndSaysSo(t *testing.T) {
	t.Parallel()
	client := testv1.NewEchoServiceClient(newBus(t, silent{}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := client.Echo(ctx, &testv1.EchoRequest{})
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "the registry can't be reached or is slow") {
		t.Errorf("Echo = %v, want DEADLINE_EXCEEDED that names the registry", err)
	}
}

func TestABrokenCallIsNotToldAsOneThatFoundNobody(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	begun, end := make(chan struct{}), make(chan struct{})
	service := serve(t, registry, &echo{soon: func(context.Context, string) (string, error) {
		close(begun)
		<-end
		return "", nil
	}}, framework.ShutdownTimeout(100*time.Millisecond))
	t.Cleanup(func() { close(end) })
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	call := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).EchoSoon, &testv1.EchoSoonRequest{}, framework.Timeout(time.Minute))
	<-begun
	if err := service.stop(); err == nil {
		t.Error("Serve cut off a call and returned no error")
	}
	_, err := call.Await(t.Context())
	if status.Code(err) != codes.Unavailable || errors.As(err, new(*discovery.NoInstanceError)) || framework.OutcomeOf(err) != framework.Unknown {
		t.Errorf("a call that was cut off = %v, which must not say that it found no instance or did not run", err)
	}
}

func TestAClosedBusRefusesCalls(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := bus.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, framework.ErrClosed) || status.Code(err) != codes.Canceled {
			t.Errorf("%s on a closed bus = %v, want ErrClosed with CANCELED", what, err)
		}
	}
	_, err := client.Echo(t.Context(), &testv1.EchoRequest{})
	check("a call of a known RPC", err)
	_, err = client.Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(time.Minute))
	check("a call with an option", err)
	_, err = client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	check("a call of a new RPC", err)
	_, err = client.Chat(t.Context())
	check("a stream", err)
	check("Ready", bus.Ready(t.Context(), "test.echo"))
}

func TestCallsRaceWithClose(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	for range 20 {
		bus := newBus(t, registry)
		client := testv1.NewEchoServiceClient(bus)
		ready(t, bus, "test.echo")
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for {
					_, err := client.Echo(t.Context(), &testv1.EchoRequest{})
					if err == nil {
						continue
					}
					if !errors.Is(err, framework.ErrClosed) {
						t.Errorf("a call during Close = %v, want a reply or ErrClosed", err)
					}
					return
				}
			})
		}
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
		callers.Wait()
	}
}

func TestMisuseOfABusIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	bus := newBus(t, memory.New())
	client := testv1.NewEchoServiceClient(bus)
	var none context.Context
	deadlined := eventually.Context(t)
	for want, call := range map[string]func() error{
		"test.echo.echo: the context is nil": func() error {
			_, err := client.Echo(none, &testv1.EchoRequest{})
			return err
		},
		"test.echo.chat: the context is nil": func() error {
			_, err := client.Chat(none)
			return err
		},
		"CallAsync: the context is nil": func() error {
			_, err := framework.CallAsync(none, client.Echo, nil).Await(t.Context())
			return err
		},
		"CallAsync: rpc is nil": func() error {
			var rpc func(context.Context, *testv1.EchoRequest, ...grpc.CallOption) (*testv1.EchoResponse, error)
			_, err := framework.CallAsync(t.Context(), rpc, nil).Await(t.Context())
			return err
		},
		"Await: the context is nil": func() error {
			_, err := framework.CallAsync(t.Context(), client.Echo, nil).Await(none)
			return err
		},
		"Ready: the context is nil": func() error { return bus.Ready(none, "auth") },
		"Ready: no API is named":    func() error { return bus.Ready(t.Context()) },
		`Ready: API "": the name is empty`: func() error {
			return bus.Ready(t.Context(), "")
		},
		`Ready: API "au/th": not a name`: func() error { return bus.Ready(t.Context(), "au/th") },
		`"Echo": this is not of gRPC's form`: func() error {
			return bus.Invoke(t.Context(), "Echo", nil, nil)
		},
		"option Timeout is 0s": func() error {
			_, err := client.Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(0))
			return err
		},
		"test.echo.chat: it is a stream, which option Timeout does not bound": func() error {
			_, err := client.Chat(t.Context(), framework.Timeout(time.Second))
			return err
		},
		"grpc.health.v1.Health: this is a service of gRPC's own": func() error {
			_, err := grpc_health_v1.NewHealthClient(bus).Check(deadlined, &grpc_health_v1.HealthCheckRequest{})
			return err
		},
	} {
		t.Run(want, func(t *testing.T) {
			err := call()
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v (%v), want INVALID_ARGUMENT that says %q", err, status.Code(err), want)
			}
		})
	}
}

func TestBadParametersOfABusAreErrors(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	for want, open := range map[string]func() error{
		"registry is nil": func() error {
			_, err := framework.NewBus(nil)
			return err
		},
		"option 1 is nil": func() error {
			_, err := framework.NewBus(registry, nil)
			return err
		},
		"option Logger: is nil": func() error {
			_, err := framework.NewBus(registry, framework.Logger(nil))
			return err
		},
		"option Retry: there is no policy 3": func() error {
			_, err := framework.NewBus(registry, framework.Retry(framework.RetryIdempotent+1))
			return err
		},
		"option DialOptions: grpc: the credentials require transport level security": func() error {
			_, err := framework.NewBus(registry, framework.DialOptions(grpc.WithPerRPCCredentials(secret{})))
			return err
		},
		`Dial: API "": the name is empty`: func() error {
			_, err := framework.Dial(registry, "")
			return err
		},
		`the API name "default.x" is reserved`: func() error {
			_, err := framework.Dial(registry, "default.x")
			return err
		},
		"Dial: grpc.health.v1.Health: this is a service of gRPC's own": func() error {
			_, err := framework.Dial(registry, "grpc.health.v1.Health")
			return err
		},
	} {
		t.Run(want, func(t *testing.T) {
			if err := open(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error that says %q", err, want)
			}
		})
	}
}

// secret is a credential that must not travel in plain text.
type secret struct{ credentials.PerRPCCredentials }

func (secret) RequireTransportSecurity() bool { return true }

func TestAFaultInAProtoIsAnErrorOfTheFirstCall(t *testing.T) {
	// Not parallel: it links a file, which programs do before they begin, and CEL
	// reads what is linked in a way that none may be added meanwhile.
	options := &descriptorpb.ServiceOptions{}
	proto.SetExtension(options, onecallv1.E_Api, &onecallv1.ApiOptions{Name: new("default")})
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("faulty/v1/faulty.proto"), Package: new("faulty.v1"), Syntax: new("proto3"),
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("FaultyService"), Options: options}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protoregistry.GlobalFiles.FindFileByPath(file.Path()); err != nil { // not by an earlier run of this test
		if err := protoregistry.GlobalFiles.RegisterFile(file); err != nil {
			t.Fatal(err)
		}
	}
	err = newBus(t, memory.New()).Invoke(t.Context(), "/faulty.v1.FaultyService/Do", nil, nil)
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), `faulty.v1.FaultyService: the API name "default" is reserved`) {
		t.Errorf("the call = %v, want INTERNAL that names the service and the fault", err)
	}
}

func TestDialConnectsToOneAPI(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	conn, err := framework.Dial(registry, "test.echo", quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := testv1.NewEchoServiceClient(conn)
	if reply, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: "hi"}); err != nil || reply.GetText() != "hi" {
		t.Errorf("Echo = %v, %v", reply, err)
	}
	if stream, err := client.Chat(t.Context()); err != nil || stream.CloseSend() != nil {
		t.Errorf("Chat = %v", err)
	}
	health, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "onecall.test.v1.EchoService"})
	if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("the health of an instance = %v, %v", health, err)
	}
	_, err = testv1.NewPlainServiceClient(conn).Ping(t.Context(), &testv1.PingRequest{})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "is not of API test.echo") {
		t.Errorf("a call of another API = %v, want INVALID_ARGUMENT", err)
	}
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); !errors.Is(err, framework.ErrClosed) {
		t.Errorf("a call on a closed connection = %v, want ErrClosed", err)
	}
}
