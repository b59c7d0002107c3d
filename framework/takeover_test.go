package framework_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/fixedport"
	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// serveAt serves e at an address, with a registry of its own that no caller uses.
func serveAt(t *testing.T, address string, e *echo) (service, discovery.Instance) {
	t.Helper()
	own := memory.New()
	running := serve(t, own, e, framework.ListenOn(address), framework.ShutdownTimeout(10*time.Second))
	return running, serving(t, own, 1)[0]
}

// TestAnInstanceThatRestartsWhileTheRegistryIsSilentIsCalledAtOnce restarts each of
// three instances at its address, then all of them. The callers go on, and the registry
// still has the first instances.
func TestAnInstanceThatRestartsWhileTheRegistryIsSilentIsCalledAtOnce(t *testing.T) {
	t.Parallel()
	const api = "onecall.test.v1.PlainService"
	silent := memory.New()
	var mu sync.Mutex
	runs := make(map[string]int) // by call
	handler := &echo{ping: func(_ context.Context, id string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		runs[id]++
		return id, nil
	}}
	services := make([]service, 3)
	addresses := make([]string, len(services))
	for i := range services {
		addresses[i] = fixedport.Address(t)
		var instance discovery.Instance
		services[i], instance = serveAt(t, addresses[i], handler)
		instance.API, instance.Service = api, api
		discoverytest.Register(t, silent, instance)
	}
	bus := newBus(t, silent, framework.LoadBalancing("round_robin", ""))
	ready(t, bus, api)
	client := testv1.NewPlainServiceClient(bus)

	var refused, lost, calls atomic.Int64
	ended := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for caller := range 4 {
		callers.Go(func() {
			for number := 0; ctx.Err() == nil; number++ {
				_, err := client.Ping(t.Context(), &testv1.PingRequest{Text: fmt.Sprint(caller, ".", number)}, framework.Timeout(time.Minute))
				calls.Add(1)
				select {
				case ended <- struct{}{}:
				default: // more does not wait
				}
				switch {
				case err == nil:
				case atmostonce.ReasonOf(err) != "":
					refused.Add(1)
				case framework.OutcomeOf(err) == framework.Unknown:
					lost.Add(1)
				case status.Code(err) != codes.Unavailable:
					t.Errorf("a call failed: %v", err)
				}
			}
		})
	}
	// more waits until a number of further calls has ended.
	more := func(count int) {
		for range count {
			eventually.Receive(t, "the end of a call", ended)
		}
	}
	restart := func(indexes ...int) {
		for _, i := range indexes {
			if err := services[i].stop(); err != nil {
				t.Error(err)
			}
		}
		for _, i := range indexes {
			services[i], _ = serveAt(t, addresses[i], handler)
		}
		ready(t, bus, api)
		more(100)
	}
	more(100)
	for i := range services {
		restart(i)
	}
	restart(0, 1, 2)
	stop()
	callers.Wait()
	// At most 4 calls were under way on a connection. A call that was bound right before
	// its connection ended may be sent on the next connection, and is refused there.
	if broken := int64(2 * len(services)); lost.Load()+refused.Load() > broken*4 {
		t.Errorf("%d of %d calls were lost and %d refused, with %d connections that ended", lost.Load(), calls.Load(), refused.Load(), broken)
	}
	mu.Lock()
	defer mu.Unlock()
	for id, times := range runs {
		if times > 1 {
			t.Errorf("call %s ran %d times", id, times)
		}
	}
}

// TestAnOldEntryDoesNotLeadBackToAnOldInstance makes the registry return an old snapshot,
// as after a restore from a backup.
func TestAnOldEntryDoesNotLeadBackToAnOldInstance(t *testing.T) {
	t.Parallel()
	own := memory.New()
	var runs atomic.Int64
	serve(t, own, &echo{soon: counting(&runs)})
	current := serving(t, own, 1)[0]
	old := current
	old.Incarnation = discovery.NewIncarnation()
	registry := memory.New()
	bus := newBus(t, registry)
	client := testv1.NewEchoServiceClient(bus)
	for i, instance := range []discovery.Instance{old, current, old, current} {
		discoverytest.Register(t, registry, instance)
		discoverytest.Watch(t, registry, "test.echo").Until(t, "the entry", func(s discovery.Snapshot) bool {
			return len(s.Instances) == 1 && s.Instances[0].Incarnation == instance.Incarnation
		})
		if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil || runs.Load() != int64(i+1) {
			t.Errorf("call %d = %v after %d runs", i+1, err, runs.Load())
		}
	}
}

// TestARefusalSaysWhoIsThere uses an instance whose health service does not send its
// incarnation, as in earlier releases.
func TestARefusalSaysWhoIsThere(t *testing.T) {
	t.Parallel()
	guard, err := server.New(server.Config{Incarnation: discovery.NewIncarnation()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guard.Close)
	plain := grpc.NewServer(grpc.UnaryInterceptor(guard.UnaryServerInterceptor()))
	var runs atomic.Int64
	plain.RegisterService(guard.Instrument(&testv1.EchoService_ServiceDesc), &echo{soon: counting(&runs)})
	address := grpctest.Loopback(t, plain)
	stale := memory.New()
	discoverytest.Register(t, stale, discovery.Instance{API: "test.echo", Address: address, Incarnation: discovery.NewIncarnation()})
	client := testv1.NewEchoServiceClient(newBus(t, stale))
	_, err = client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	if atmostonce.ReasonOf(err) != atmostonce.WrongInstance || framework.OutcomeOf(err) != framework.Unknown || runs.Load() != 0 {
		t.Errorf("the first call = %v after %d runs, want WRONG_INSTANCE and none", err, runs.Load())
	}
	for range 10 {
		if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			t.Errorf("a call after the refusal = %v", err)
		}
	}
	if runs.Load() != 10 {
		t.Errorf("10 calls ran %d times", runs.Load())
	}
}
