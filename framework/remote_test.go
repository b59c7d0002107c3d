package framework_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
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
)

// answering is a registry that gets descriptors from a function.
type answering struct {
	*memory.Registry

	descriptors func(ctx context.Context, instance discovery.Instance, its func() (string, error)) (string, error)
	asked       atomic.Int64
}

func (a *answering) Descriptors(ctx context.Context, instance discovery.Instance) (string, error) {
	a.asked.Add(1)
	return a.descriptors(ctx, instance, func() (string, error) { return a.Registry.Descriptors(ctx, instance) })
}

// TestACallWithoutADeadlineEndsThoughTheRegistryIsSilent makes calls whose only timeout is
// the declared one.
func TestACallWithoutADeadlineEndsThoughTheRegistryIsSilent(t *testing.T) {
	t.Parallel()
	garbage := publishing{memory.New(), "AAAAAAAAAAAAAAAAAAAAAA", "garbage"}
	serveAny(t, garbage, (&echo{}).register)
	ready(t, newBus(t, garbage), "test.echo")
	for name, bus := range map[string]*framework.Bus{
		"a registry that says nothing":         newBus(t, silent{}),
		"a schema that can't be read, held to": newBus(t, garbage, framework.StrictSchema()),
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			go func() {
				_, err := testv1.NewEchoServiceClient(bus).EchoSoon(context.Background(), &testv1.EchoSoonRequest{}, framework.Timeout(100*time.Millisecond))
				ended <- err
			}()
			if err := eventually.Receive(t, "the end of a call of 100 ms", ended); status.Code(err) != codes.DeadlineExceeded || framework.OutcomeOf(err) != framework.NotSent {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestReadingASchemaIsHeldToTheCallsTime(t *testing.T) {
	t.Parallel()
	hanging := &answering{Registry: memory.New(), descriptors: func(ctx context.Context, _ discovery.Instance, _ func() (string, error)) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}}
	serveForeign(t, hanging.Registry)
	for name, bus := range map[string]*framework.Bus{"that says nothing": newBus(t, silent{}), "that does not give the schema": newBus(t, hanging)} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := bus.Call(t.Context(), "shop.items.find_item", framework.Args{}, framework.Timeout(50*time.Millisecond))
			if took := time.Since(began); status.Code(err) != codes.DeadlineExceeded || framework.OutcomeOf(err) != framework.NotSent || took > eventually.AtOnce {
				t.Errorf("a registry %s: after %v %v", name, took, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := bus.Call(ctx, "shop.items.find_item", framework.Args{}); status.Code(err) != codes.Canceled {
				t.Errorf("a registry %s, with a context that has ended: %v", name, err)
			}
		})
	}
}

func TestCloseEndsWhatWaitsForTheRegistry(t *testing.T) {
	t.Parallel()
	hanging := &answering{Registry: memory.New(), descriptors: func(ctx context.Context, _ discovery.Instance, _ func() (string, error)) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}}
	discoverytest.Register(t, hanging.Registry, discovery.Instance{API: "shop.items", Address: "10.0.0.1:443", Service: "shop.v1.ItemService", Schema: "AAAAAAAAAAAAAAAAAAAAAA"})
	for name, registry := range map[string]discovery.Registry{"a registry that says nothing": silent{}, "one that does not give the schema": hanging} {
		for what, wait := range map[string]func(*framework.Bus) error{
			"a call by name": func(bus *framework.Bus) error {
				_, err := bus.Call(context.Background(), "shop.items.find_item", framework.Args{})
				return err
			},
			"a description": func(bus *framework.Bus) error {
				_, err := bus.Describe(context.Background(), "shop.items")
				return err
			},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					bus := newBus(t, registry)
					waited := make(chan error, 1)
					go func() { waited <- wait(bus) }()
					synctest.Wait() // it waits
					began := time.Now()
					if err := bus.Close(); err != nil {
						t.Error(err)
					}
					err := <-waited
					if !errors.Is(err, framework.ErrClosed) || status.Code(err) != codes.Canceled || framework.OutcomeOf(err) != framework.NotSent {
						t.Errorf("the error is %v (%v), want ErrClosed with CANCELED", err, framework.OutcomeOf(err))
					}
					if took := time.Since(began); took > 0 {
						t.Errorf("it ended %v after Close", took)
					}
				})
			})
		}
	}
}

func TestASchemaIsTakenFromAnInstanceThatHasIt(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]string{"none": "", "garbage": "garbage"} {
		t.Run(name, func(t *testing.T) {
			registry := &answering{Registry: memory.New()}
			registry.descriptors = func(_ context.Context, instance discovery.Instance, its func() (string, error)) (string, error) {
				if instance.Address == "1.0.0.1:1" { // the first by address
					return bad, nil
				}
				return its()
			}
			serveForeign(t, registry.Registry)
			if _, err := registry.Register(discovery.Instance{API: "shop.items", Address: "1.0.0.1:1", Service: "shop.v1.ItemService", Schema: "BBBBBBBBBBBBBBBBBBBBBB"}); err != nil {
				t.Fatal(err)
			}
			bus := newBus(t, registry)
			var describing sync.WaitGroup
			for range 50 {
				describing.Go(func() {
					if description, err := bus.Describe(t.Context(), "shop.items"); err != nil || len(description.RPCs) != 1 {
						t.Errorf("%s: %v, %v", name, description, err)
					}
				})
			}
			describing.Wait()
			if asked := registry.asked.Load(); asked > 20 {
				t.Errorf("%s: 50 who asked at once had the registry asked %d times", name, asked)
			}
		})
	}
}

func TestStrictSchemaCallsNoInstanceWhoseSchemaItHasNotSeen(t *testing.T) {
	t.Parallel()
	digest, packed := changed(t, func(file *descriptorpb.FileDescriptorProto) {
		file.MessageType[0].Field[0].Number = proto.Int32(2)
		file.MessageType[0].Field[0].Options = nil
	})
	var first atomic.Bool
	inner := publishing{memory.New(), digest, packed}
	serveAny(t, inner, (&echo{}).register)
	registry := &answering{Registry: inner.Registry, descriptors: func(_ context.Context, _ discovery.Instance, its func() (string, error)) (string, error) {
		if first.CompareAndSwap(false, true) {
			return "", nil // its key was deleted, and is put again
		}
		return its()
	}}
	ready(t, newBus(t, inner), "test.echo")
	bus := newBus(t, registry, framework.StrictSchema())
	_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
	if !errors.As(err, new(*framework.SchemaError)) || bus.Stats().IncompatibleSchemas != 1 {
		t.Errorf("Echo = %v, with %d incompatible schemas", err, bus.Stats().IncompatibleSchemas)
	}
}

// unread registers an instance of test.echo whose schema cannot be read.
func unread(t *testing.T, registry *memory.Registry, digest string) discovery.Registration {
	t.Helper()
	registered, err := registry.Register(discovery.Instance{
		API: "test.echo", Address: "10.0.0.9:443", Incarnation: discovery.NewIncarnation(), Service: "onecall.test.v1.EchoService", Schema: digest,
	})
	if err != nil {
		t.Fatal(err)
	}
	return registered
}

func TestAnInstanceThatIsGoneIsNotAskedForItsSchema(t *testing.T) {
	t.Parallel()
	nowhere := framework.DialOptions(grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") }))
	for name, options := range map[string][]framework.BusOption{"strict": {framework.StrictSchema(), nowhere}, "lax": {nowhere}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				registry := &answering{Registry: memory.New(), descriptors: func(_ context.Context, _ discovery.Instance, its func() (string, error)) (string, error) {
					return its()
				}}
				bus := newBus(t, registry, options...)
				// So that the bus is not idle.
				calling := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, grpc.WaitForReady(true), framework.Timeout(24*time.Hour))
				came := int64(0)
				for _, digest := range []string{"AAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBA", "AAAAAAAAAAAAAAAAAAAAAA"} {
					registered := unread(t, registry.Registry, digest)
					time.Sleep(10 * time.Minute)
					if now := registry.asked.Load(); now == came {
						t.Errorf("nobody asked for schema %s", digest)
					}
					if err := registered.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Minute)
					came = registry.asked.Load()
					time.Sleep(time.Hour)
					if now := registry.asked.Load(); now != came {
						t.Errorf("schema %s was asked for %d times within an hour after its instance was gone", digest, now-came)
					}
				}
				if err := bus.Close(); err != nil {
					t.Error(err)
				}
				if _, err := calling.Await(t.Context()); !errors.Is(err, framework.ErrClosed) {
					t.Errorf("the call = %v", err)
				}
			})
		})
	}
}

// TestASchemaThatCanBeReadAfterAllIsCheckedSoon makes a call that waits for an instance
// whose schema cannot be read, and another call after the bus was idle.
func TestASchemaThatCanBeReadAfterAllIsCheckedSoon(t *testing.T) {
	t.Parallel()
	digest, packed := changed(t, func(file *descriptorpb.FileDescriptorProto) {
		file.MessageType[0].Field[0].Options = nil // which is compatible
	})
	for name, pause := range map[string]time.Duration{"before there is a call": 0, "while a call waits": 25 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var readable atomic.Bool
				inner := publishing{memory.New(), digest, packed}
				registry := &answering{Registry: inner.Registry, descriptors: func(_ context.Context, _ discovery.Instance, its func() (string, error)) (string, error) {
					if !readable.Load() {
						return "", errors.New("the registry is away")
					}
					return its()
				}}
				listener := bufconn.Listen(1 << 20)
				serveAny(t, inner, (&echo{}).register, framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"))
				synctest.Wait() // it is registered
				bus := newBus(t, registry, framework.StrictSchema(), framework.DialOptions(
					grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })))
				client := testv1.NewEchoServiceClient(bus)
				if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("a call before the schema can be read = %v", err)
				}
				time.Sleep(24*time.Hour - pause) // grpc-go closes what is idle for half an hour
				if pause > 0 {
					time.AfterFunc(pause, func() { readable.Store(true) })
				} else {
					readable.Store(true)
				}
				began := time.Now()
				if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(time.Hour)); err != nil {
					t.Errorf("a call of a schema that can be read after %v = %v", pause, err)
				}
				if took := time.Since(began) - pause; took > 25*time.Second { // two pauses of 10 s at most, and what grpc-go takes
					t.Errorf("it was checked %v after it could be read", took)
				}
			})
		})
	}
}

// TestACallByNameFollowsASchemaThatRollsForward replaces an instance by one with
// another parameter.
func TestACallByNameFollowsASchemaThatRollsForward(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveForeign(t, registry)
	bus := newBus(t, registry)
	if _, err := bus.Call(t.Context(), "shop.items.find_item", framework.Args{"name": "lamp", "most": 1}); err != nil {
		t.Fatal(err)
	}
	next := shopFile()
	next.MessageType[0].Field[1].Name = new("limit")
	service, digest, packed := publish(t, next)
	watched := make(chan discovery.Snapshot, 100)
	stop := registry.Watch("shop.items", func(s discovery.Snapshot) { watched <- s })
	defer stop()
	address := (<-watched).Instances[0].Address
	if _, err := registry.Register(discovery.Instance{ // newer at its address
		API: "shop.items", Address: address, Incarnation: discovery.NewIncarnation(), Service: string(service.FullName()), Schema: digest, Descriptors: packed,
	}); err != nil {
		t.Fatal(err)
	}
	<-watched
	// A schema that no instance has any more is not used to show the right call.
	_, err := bus.Call(t.Context(), "shop.items.find_item", "lamp", 1)
	if err == nil || !strings.Contains(err.Error(), `framework.Args{"name": value, …}`) {
		t.Errorf("a positional call = %v", err)
	}
	_, err = bus.Call(t.Context(), "shop.items.find_item", framework.Args{"name": "lamp", "most": 1})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "limit is missing") {
		t.Errorf("with the parameters of before = %v", err)
	}
	description, err := bus.Describe(t.Context(), "shop.items")
	if err != nil || description.RPCs[0].Parameters[1].Name != "limit" {
		t.Errorf("the description is %v, %v", description, err)
	}
}

// TestABadRuleIsAnErrorAtTheStart links a .proto whose rule does not compile.
func TestABadRuleIsAnErrorAtTheStart(t *testing.T) {
	t.Parallel()
	// In a process of its own: it links a file, which programs do before they begin,
	// and CEL reads what is linked in a way that none may be added meanwhile.
	const alone = "ONECALL_TEST_LINKS"
	if os.Getenv(alone) == "" {
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), alone+"=1")
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	const name = "shop.broken.v1.BrokenService"
	file := shopFile()
	file.Name, file.Package = new("shop/broken.proto"), new("shop.broken.v1")
	rules := &descriptorpb.FieldOptions{}
	proto.SetExtension(rules, validate.E_Field, &validate.FieldRules{Cel: []*validate.Rule{{Id: new("broken"), Expression: new("this.nobody(")}}})
	file.MessageType[0].Field[0].Options = rules
	file.Service[0].Name, file.Service[0].Options = new("BrokenService"), nil
	file.Service[0].Method[0].InputType, file.Service[0].Method[0].OutputType = new(".shop.broken.v1.FindItemRequest"), new(".shop.broken.v1.FindItemResponse")
	file.Service[0].Method = append(file.Service[0].Method, &descriptorpb.MethodDescriptorProto{
		Name: new("Unruled"), InputType: new(".shop.broken.v1.FindItemResponse"), OutputType: new(".shop.broken.v1.FindItemResponse"),
	})
	linked, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err == nil {
		err = protoregistry.GlobalFiles.RegisterFile(linked)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = framework.Serve(t.Context(), memory.New(), func(apis grpc.ServiceRegistrar) {
		apis.RegisterService(&grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "FindItem"}}}, struct{}{})
	}, quiet)
	if err == nil || !strings.Contains(err.Error(), "shop.broken.v1.FindItemRequest.name: a validation rule does not compile") {
		t.Errorf("Serve = %v", err)
	}
	bus := newBus(t, untouched{fixed{}, t})
	err = bus.Invoke(t.Context(), "/"+name+"/FindItem", &testv1.EchoRequest{}, &testv1.EchoResponse{})
	if status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.NotSent || !strings.Contains(err.Error(), "does not compile") {
		t.Errorf("the first call = %v", err)
	}
	// An RPC whose messages have no rules does not wait for those of others.
	err = newBus(t, memory.New()).Invoke(t.Context(), "/"+name+"/Unruled", &testv1.EchoRequest{}, &testv1.EchoResponse{})
	if err == nil || !strings.Contains(err.Error(), "it was never served") {
		t.Errorf("a call without rules = %v", err)
	}
}
