package framework_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// nowhere prevents a bus from connecting to any instance.
var nowhere = framework.DialOptions(grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
	return nil, errors.New("no instance is there")
}))

// manySchemas registers instances of test.echo, each with a schema of its own.
func manySchemas(t *testing.T, registry discovery.Registry, count int, schemaOf func(i int) (digest, packed string)) {
	t.Helper()
	instances := make([]discovery.Instance, count)
	for i := range instances {
		digest, packed := schemaOf(i)
		instances[i] = discovery.Instance{
			API: "test.echo", Address: fmt.Sprintf("10.0.%d.%d:443", i/256, i%256), Incarnation: discovery.NewIncarnation(),
			Service: "onecall.test.v1.EchoService", Schema: digest, Descriptors: packed,
		}
	}
	registered, err := registry.Register(instances...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registered.Close(context.Background()) })
}

// large returns descriptors of EchoService with a number of other messages.
func large(t *testing.T, messages int) (digest, packed string) {
	t.Helper()
	return changed(t, func(file *descriptorpb.FileDescriptorProto) {
		for i := range messages {
			file.MessageType = append(file.MessageType, &descriptorpb.DescriptorProto{
				Name: new(fmt.Sprintf("Added%d", i)), Field: []*descriptorpb.FieldDescriptorProto{{
					Name: new("field"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
					Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
				}},
			})
		}
	})
}

// A program that may register instances can publish any number of schemas, and every
// caller of the API reads them.
func TestSchemasOfARegistryAreReadOneByOneAndFewAMinute(t *testing.T) {
	// Not parallel: it measures the heap.
	_, packed := large(t, 5_000)
	var now, most, asked atomic.Int64
	requests := make(chan struct{}, 300)
	registry := &answering{Registry: memory.New(), descriptors: func(_ context.Context, _ discovery.Instance, its func() (string, error)) (string, error) {
		asked.Add(1)
		requests <- struct{}{}
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		return its()
	}}
	manySchemas(t, registry, 300, func(i int) (string, string) { return fmt.Sprintf("AAAAAAAAAAAAAAAAAA%04d", i), packed })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	bus := newBus(t, registry, nowhere)
	_, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	if status.Code(err) != codes.Unavailable && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the call = %v", err)
	}
	const few = 64 // which may be known
	for range 8 {
		eventually.Receive(t, "a request for a schema", requests)
	}
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if asked.Load() > few || most.Load() > 8 {
		t.Errorf("the registry was asked %d times, %d at once", asked.Load(), most.Load())
	}
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 9*60 {
		t.Errorf("%d MB were allocated for 300 schemas", took)
	}
}

// TestCloseWaitsForNoSchemaThatIsBeingRead blocks the reading until Close has returned.
func TestCloseWaitsForNoSchemaThatIsBeingRead(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]framework.BusOption{"strict": {framework.StrictSchema()}, "not strict": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				registry := memory.New()
				manySchemas(t, registry, 1, func(int) (string, string) { return large(t, 1) })
				begun, closed, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
				hold := framework.BeforeUnpack(func() {
					close(begun)
					<-closed
					close(ended)
				})
				bus := newBus(t, registry, append(options, nowhere, hold)...)
				calling := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, grpc.WaitForReady(true))
				<-begun
				if err := bus.Close(); err != nil { // if it waited, all goroutines here would
					t.Error(err)
				}
				close(closed)
				<-ended
				if _, err := calling.Await(t.Context()); err == nil {
					t.Error("the call succeeded")
				}
			})
		})
	}
}

func TestASchemaThatIsNotTheOneRegisteredIsNotUsed(t *testing.T) {
	t.Parallel()
	_, other := changed(t, func(file *descriptorpb.FileDescriptorProto) { file.MessageType[0].Field[0].Number = new(int32(9)) })
	registry := memory.New()
	manySchemas(t, registry, 1, func(int) (string, string) { return "BBBBBBBBBBBBBBBBBBBBBB", other })
	bus := newBus(t, registry, nowhere, framework.StrictSchema())
	_, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}, framework.Timeout(2*time.Second))
	if status.Code(err) != codes.DeadlineExceeded || bus.Stats().IncompatibleSchemas != 0 || !strings.Contains(fmt.Sprint(err), "the descriptors have the digest") {
		t.Errorf("the call = %v, with %d incompatible schemas", err, bus.Stats().IncompatibleSchemas)
	}
	foreign := shopFile()
	service, _, packed := publish(t, foreign)
	if _, err := registry.Register(discovery.Instance{
		API: "shop.items", Address: "10.0.0.1:443", Service: string(service.FullName()), Schema: "BBBBBBBBBBBBBBBBBBBBBB", Descriptors: packed,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Call(t.Context(), "shop.items.find_item", framework.Args{"name": "lamp", "most": 1}); err == nil || !strings.Contains(err.Error(), "the descriptors have the digest") {
		t.Errorf("a call by name = %v", err)
	}
}

// TestSchemasAreReadInTheEnd publishes more schemas than are read within a minute.
func TestSchemasAreReadInTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := &answering{Registry: memory.New(), descriptors: func(_ context.Context, _ discovery.Instance, its func() (string, error)) (string, error) {
			return its()
		}}
		const count = 20
		manySchemas(t, registry, count, func(i int) (string, string) {
			return changed(t, func(file *descriptorpb.FileDescriptorProto) {
				file.MessageType[0].Field[0].Number, file.MessageType[0].Field[0].Options = new(int32(100+i)), nil
			})
		})
		bus := newBus(t, registry, nowhere, framework.StrictSchema())
		calling := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, grpc.WaitForReady(true), framework.Timeout(24*time.Hour))
		time.Sleep(50 * time.Second)
		if found := bus.Stats().IncompatibleSchemas; found != 8 {
			t.Errorf("after 50 s %d schemas were read, want 8", found)
		}
		time.Sleep(5 * time.Minute)
		if found := bus.Stats().IncompatibleSchemas; found != count {
			t.Errorf("after six minutes %d schemas were read, want %d", found, count)
		}
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
		if _, err := calling.Await(t.Context()); err == nil {
			t.Error("the call succeeded")
		}
	})
}

// TestWhatIsKnownOfASchemaThatIsGoneIsDropped repeatedly replaces an instance, each time
// with another schema.
func TestWhatIsKnownOfASchemaThatIsGoneIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := memory.New()
		bus := newBus(t, registry, nowhere, framework.StrictSchema())
		calling := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, grpc.WaitForReady(true), framework.Timeout(24*time.Hour))
		const count = 150 // more than may be known at once
		for i := range count {
			digest, packed := changed(t, func(file *descriptorpb.FileDescriptorProto) {
				file.MessageType[0].Field[0].Number, file.MessageType[0].Field[0].Options = new(int32(100+i)), nil
			})
			registered, err := registry.Register(discovery.Instance{
				API: "test.echo", Address: "10.0.0.1:443", Incarnation: discovery.NewIncarnation(), Service: "onecall.test.v1.EchoService", Schema: digest, Descriptors: packed,
			})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			if err := registered.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			// The current schema, and the schemas of the last minutes.
			if kept := framework.KeptChecks(bus); kept == 0 || kept > 4 {
				t.Fatalf("after %d schemas what was found of %d is kept", i+1, kept)
			}
		}
		if found := bus.Stats().IncompatibleSchemas; found != count {
			t.Errorf("%d schemas were read, want %d", found, count)
		}
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
		if _, err := calling.Await(t.Context()); err == nil {
			t.Error("the call succeeded")
		}
	})
}

// A field that the instance requires counts as a difference, so that descriptors
// have as many as they have fields.
func TestALogLineOfAnIncompatibleSchemaIsShort(t *testing.T) {
	t.Parallel()
	digest, packed := changed(t, func(file *descriptorpb.FileDescriptorProto) {
		for i := range 5_000 {
			file.MessageType[0].Field = append(file.MessageType[0].Field, &descriptorpb.FieldDescriptorProto{
				Name: new(fmt.Sprintf("added_%d", i)), Number: new(int32(1000 + i)), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			})
		}
	})
	registry := memory.New()
	if _, err := registry.Register(discovery.Instance{
		API: "test.echo", Address: "10.0.0.1:443", Service: "onecall.test.v1.EchoService", Schema: digest, Descriptors: packed,
		Version: strings.Repeat("x", 1000),
	}); err != nil {
		t.Fatal(err)
	}
	lines := new(testlog.Log)
	bus := newBus(t, registry, nowhere, framework.Logger(lines.Logger()), framework.StrictSchema())
	_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
	if refused, ok := errors.AsType[*framework.SchemaError](err); !ok || len(refused.Differences) > 100 {
		t.Errorf("the call = %.300v", err)
	}
	if text := fmt.Sprint(err); len(text) > 5000 || strings.Contains(text, "\n") {
		t.Errorf("the error has %d bytes: %.200q", len(text), text)
	}
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
	if text := lines.String(); len(text) > 5000 || strings.Count(text, "\n") != 1 || !strings.Contains(text, "incompatible") {
		t.Errorf("the log has %d bytes: %.300q", len(text), text)
	}
}
