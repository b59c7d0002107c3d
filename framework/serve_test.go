package framework_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestBadParametersOfServeAreErrorsBeforeItServes(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	var (
		none     context.Context
		memories = memory.New()
		good     = (&echo{}).register
		unix     = func() net.Listener {
			listener, err := net.Listen("unix", t.TempDir()+"/socket")
			if err != nil {
				t.Fatal(err)
			}
			return listener
		}
	)
	nobody := func(ctx context.Context) (context.Context, error) { return ctx, nil }
	serve := func(register func(grpc.ServiceRegistrar), options ...framework.ServeOption) func() error {
		return func() error { return framework.Serve(t.Context(), memories, register, options...) }
	}
	for want, serve := range map[string]func() error{
		"the context is nil":    func() error { return framework.Serve(none, memories, good) },
		"registry is nil":       func() error { return framework.Serve(t.Context(), nil, good) },
		"register is nil":       serve(nil),
		"no API was registered": serve(func(grpc.ServiceRegistrar) {}),
		"onecall.test.v1.EchoService: is registered twice: a server has one implementation of a service: remove one of the two calls that register it": serve(func(apis grpc.ServiceRegistrar) {
			testv1.RegisterEchoServiceServer(apis, &echo{})
			testv1.RegisterEchoServiceServer(apis, &echo{})
		}),
		"onecall.test.v1.EchoService: its implementation is nil": serve(func(apis grpc.ServiceRegistrar) {
			apis.RegisterService(&testv1.EchoService_ServiceDesc, nil)
		}),
		"does not implement testv1.EchoServiceServer": serve(func(apis grpc.ServiceRegistrar) {
			apis.RegisterService(&testv1.EchoService_ServiceDesc, struct{}{})
		}),
		`test.echo: goes by the API name "test.echo", as does onecall.test.v1.EchoService`: serve(func(apis grpc.ServiceRegistrar) {
			testv1.RegisterEchoServiceServer(apis, &echo{})
			apis.RegisterService(&grpc.ServiceDesc{ServiceName: "test.echo"}, &echo{})
		}),
		"test.Hidden: its StreamDesc Look streams in neither direction": serve(func(apis grpc.ServiceRegistrar) {
			apis.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Hidden", Streams: []grpc.StreamDesc{{StreamName: "Look"}}}, &echo{})
		}),
		`default.Service: the API name "default.Service" is reserved`: serve(func(apis grpc.ServiceRegistrar) {
			apis.RegisterService(&grpc.ServiceDesc{ServiceName: "default.Service"}, &echo{})
		}),
		"option ListenOn: cannot listen: listen tcp " + taken.Addr().String() + ": bind: address already in use: end what listens there, or give an address": serve(good, framework.ListenOn(taken.Addr().String())),
		`option ListenOn: "8080" is not "host:port"`:             serve(good, framework.ListenOn("8080")),
		`option AdvertiseAs: ":80" is not "host:port"`:           serve(good, framework.AdvertiseAs(":80")),
		`option AdvertiseAs: "host:x" has the port "x"`:          serve(good, framework.AdvertiseAs("host:x")),
		"option AdvertiseAs: is needed, for callers cannot dial": serve(good, framework.Listener(unix())),
		"option ShutdownTimeout: 0s is not more than zero":       serve(good, framework.ShutdownTimeout(0)),
		"option Authenticate: the function is nil":               serve(good, framework.Authenticate(nil)),
		"option Authenticate: is given twice":                    serve(good, framework.Authenticate(nobody), framework.Authenticate(nobody)),
		"option Logger: is nil":                                  serve(good, framework.Logger(nil)),
		"option 1 is nil":                                        serve(good, nil),
		"option ServerOptions: The unary server interceptor was already set": serve(good, framework.ServerOptions(grpc.UnaryInterceptor(
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				return handler(ctx, req)
			}))),
		"registering: discovery: instance of": serve(good, framework.AdvertiseAs("0.0.0.0:1")),
	} {
		t.Run(want, func(t *testing.T) {
			err := serve()
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Serve = %v, want an error that says %q", err, want)
			}
		})
	}
	if snapshot := discoverytest.Watch(t, memories, "test.echo").UntilAddresses(t); snapshot.Known {
		t.Error("a Serve that failed was registered")
	}
}

func TestServeTellsWhereItIsFound(t *testing.T) {
	t.Parallel()
	for advertise, want := range map[string]string{"": "127.0.0.1:", "10.0.0.7:0": "10.0.0.7:", "service.example:443": "service.example:443"} {
		t.Run(cmp.Or(advertise, "by default"), func(t *testing.T) {
			registry := memory.New()
			var options []framework.ServeOption
			if advertise != "" {
				options = append(options, framework.AdvertiseAs(advertise))
			}
			serve(t, registry, &echo{}, options...)
			snapshot := discoverytest.Watch(t, registry, "test.echo").Until(t, "an instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 1 })
			instance := snapshot.Instances[0]
			if !strings.HasPrefix(instance.Address, want) || strings.HasSuffix(instance.Address, ":0") {
				t.Errorf("with AdvertiseAs(%q) the instance is at %s", advertise, instance.Address)
			}
			if instance.Service != "onecall.test.v1.EchoService" || instance.Incarnation.IsZero() || time.Since(instance.Started) > time.Minute {
				t.Errorf("the instance is %+v", instance)
			}
		})
	}
	registry := memory.New()
	serve(t, registry, &echo{}, framework.ListenOn(":0"), framework.Insecure())
	snapshot := discoverytest.Watch(t, registry, "test.echo").Until(t, "an instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 1 })
	conn, err := net.Dial("tcp", snapshot.Instances[0].Address)
	if err != nil {
		t.Errorf("who listens everywhere is found where nobody listens: %v", err)
	} else {
		_ = conn.Close()
	}
}

func TestServeOffersHealthAndReflection(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
			testv1.RegisterEchoServiceServer(apis, &echo{})
			reflection.Register(apis.(reflection.GRPCServer))
		}, quiet)
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	snapshot := discoverytest.Watch(t, registry, "test.echo").Until(t, "an instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 1 })
	conn, err := grpc.NewClient(snapshot.Instances[0].Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, name := range []string{"", "onecall.test.v1.EchoService"} {
		t.Run(cmp.Or(name, "the server"), func(t *testing.T) {
			reply, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name})
			if err != nil || reply.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Errorf("the health of %q = %v, %v", name, reply, err)
			}
		})
	}
	for _, name := range []string{"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} {
		t.Run(name, func(t *testing.T) {
			if s := discoverytest.Watch(t, registry, name).UntilAddresses(t); s.Known {
				t.Errorf("%s is registered as an API", name)
			}
		})
	}
}

func TestServeLeavesTheRegistryThenFinishesItsCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Pointer[time.Time]
		bus, service, _ := inMemory(t, &echo{echo: func(context.Context, string) (string, error) {
			time.Sleep(time.Second)
			now := time.Now()
			ended.Store(&now)
			return "finished", nil
		}})
		var all []*framework.Call[testv1.EchoResponse]
		for range 10 {
			all = append(all, framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}))
		}
		synctest.Wait()
		left := make(chan time.Time, 1)
		var draining bool
		stop := service.registry.Watch("test.echo", func(s discovery.Snapshot) {
			if len(s.Instances) == 1 {
				draining = s.Instances[0].State == discovery.Draining
				return
			}
			left <- time.Now()
		})
		defer stop()
		start := time.Now()
		if err := service.stop(); err != nil {
			t.Errorf("Serve = %v", err)
		}
		for _, call := range all {
			if reply, err := call.Await(t.Context()); err != nil || reply.GetText() != "finished" {
				t.Errorf("a call under way = %v, %v", reply, err)
			}
		}
		if at := <-left; at.Sub(start) != 200*time.Millisecond || !draining || ended.Load().Sub(start) != time.Second {
			t.Errorf("left the registry after %v (draining first: %v), the last call ended after %v", at.Sub(start), draining, ended.Load().Sub(start))
		}
	})
}

func TestNoCallIsLostWhenInstancesAreReplacedOneByOne(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	running := []service{serve(t, registry, &echo{}), serve(t, registry, &echo{})}
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	var (
		over    atomic.Bool
		replies atomic.Int64
		callers sync.WaitGroup
	)
	for range 8 {
		callers.Go(func() {
			client := testv1.NewEchoServiceClient(bus)
			for !over.Load() {
				if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}, framework.Timeout(time.Minute)); err != nil {
					t.Errorf("a call was lost: %v", err)
				}
				replies.Add(1)
			}
		})
	}
	for i := range 6 {
		successor := serve(t, registry, &echo{})
		discoverytest.Watch(t, registry, "test.echo").Until(t, "three instances", func(s discovery.Snapshot) bool { return len(s.Instances) == 3 })
		if err := running[i%2].stop(); err != nil {
			t.Error(err)
		}
		running[i%2] = successor
	}
	over.Store(true)
	callers.Wait()
	if replies.Load() == 0 {
		t.Error("no call was made")
	}
}

func TestServeCutsOffWhatOutlivesItsBudget(t *testing.T) {
	t.Parallel()
	for budget, options := range map[time.Duration][]framework.ServeOption{
		25 * time.Second: nil,
		time.Minute:      {framework.ShutdownTimeout(time.Minute)},
	} {
		t.Run(budget.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus, service, _ := inMemory(t, &echo{echo: func(ctx context.Context, _ string) (string, error) {
					<-ctx.Done()
					return "", ctx.Err()
				}}, options...)
				call := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, framework.Timeout(time.Hour))
				synctest.Wait()
				start := time.Now()
				err := service.stop()
				// All connections are closed a second before the end at most.
				if took := time.Since(start); took > budget || took < budget-time.Second {
					t.Errorf("Serve took %v to end, want %v", took, budget)
				}
				if err == nil || !strings.Contains(err.Error(), "calls were still under way after "+(budget-time.Second).String()+" and were cut off: 1 of test.echo.echo") {
					t.Errorf("Serve = %v, want an error that says what was cut off", err)
				}
				if _, err := call.Await(t.Context()); status.Code(err) != codes.Unavailable {
					t.Errorf("the call that was cut off = %v, want UNAVAILABLE", err)
				}
			})
		})
	}
}

// stuck is a registry that accepts registrations and then does not answer.
type stuck struct{ fixed }

func (stuck) Status() discovery.Status { return discovery.Status{} }

func (s stuck) Register(...discovery.Instance) (discovery.Registration, error) { return s, nil }

func (stuck) Drain(ctx context.Context) error {
	<-ctx.Done()
	return errors.New("no drain")
}

func (stuck) Close(ctx context.Context) error {
	<-ctx.Done()
	return errors.New("no close")
}

func TestServeReturnsEveryErrorItMet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := framework.Serve(ctx, stuck{}, (&echo{}).register, quiet, framework.ShutdownTimeout(10*time.Second),
			framework.Listener(bufconn.Listen(1)), framework.AdvertiseAs("10.0.0.1:443"))
		if err == nil || !strings.Contains(err.Error(), "no drain") || !strings.Contains(err.Error(), "no close") {
			t.Errorf("Serve = %v, want both errors", err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a registry that does not answer held Serve up for %v of 10s", took)
		}
	})
}

func TestAPanicIsAnIncident(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var log testlog.Log
	serve(t, registry, &echo{
		echo:  func(context.Context, string) (string, error) { panic("the password is hunter2") },
		watch: func(testv1.EchoService_WatchServer) error { panic("the stream's too") },
	}, framework.Logger(slog.New(slog.NewJSONHandler(&log, nil))))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	check := func(err error) {
		t.Helper()
		message := status.Convert(err).Message()
		_, incident, found := strings.Cut(message, "incident ")
		if status.Code(err) != codes.Internal || !found || strings.Contains(message, "hunter2") || strings.Contains(message, "goroutine") {
			t.Fatalf("the caller was told %v, want INTERNAL with an incident and nothing else", err)
		}
		if text := log.String(); !strings.Contains(text, incident) || !strings.Contains(text, "service_test.go") {
			t.Errorf("the log has not the incident %s and its stack: %s", incident, text)
		}
	}
	_, err := client.Echo(t.Context(), &testv1.EchoRequest{})
	check(err)
	stream, err := client.Watch(t.Context(), &testv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	check(err)
	if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
		t.Errorf("after panics the service answers %v", err)
	}
}
