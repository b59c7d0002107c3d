package framework_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// serving waits until a registry has a number of instances of test.echo.
func serving(t *testing.T, registry discovery.Registry, count int) []discovery.Instance {
	t.Helper()
	return discoverytest.Watch(t, registry, "test.echo").Until(t, fmt.Sprint(count, " instances"), func(s discovery.Snapshot) bool {
		return len(s.Instances) == count
	}).Instances
}

func TestReadyNamesOnlyWhatIsNotReady(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	serving(t, registry, 1)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := bus.Ready(ctx, "nobody", "test.echo")
	if err == nil || strings.Contains(err.Error(), `"test.echo"`) || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("Ready = %v", err)
	}
}

// TestInstancesThatVanishFromRegistryAndNetworkAreGoneAfterTheGrace silences the hosts of
// two of three instances. Their connections stay open while the registry removes them.
func TestInstancesThatVanishFromRegistryAndNetworkAreGoneAfterTheGrace(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	proxies := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	type host struct {
		proxy        *toxiproxy.Proxy
		registration discovery.Registration
	}
	var hosts []host
	for i := range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		own := memory.New()
		serve(t, own, &echo{}, framework.Listener(listener))
		instance := serving(t, own, 1)[0]
		proxy := toxiproxy.NewProxy(proxies, strconv.Itoa(i), "127.0.0.1:0", listener.Addr().String())
		if err := proxy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(proxy.Stop)
		instance.Address = proxy.Listen
		registration, err := registry.Register(instance)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, host{proxy, registration})
	}
	bus := newBus(t, registry, framework.LoadBalancing("round_robin", ""))
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	call := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.Echo(ctx, &testv1.EchoRequest{})
		return err
	}
	inARow := func(want int) func() bool {
		good := 0
		return func() bool {
			good++
			if call() != nil {
				good = 0
			}
			return good == want
		}
	}
	eventually.True(t, "calls of three connected instances", inARow(20))
	for _, host := range hosts[:2] {
		for _, way := range []string{"downstream", "upstream"} {
			toxic := fmt.Sprintf(`{"name": %q, "type": "timeout", "stream": %q, "toxicity": 1, "attributes": {"timeout": 0}}`, way, way)
			if _, err := host.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, host := range hosts[:2] { // their leases end
		discoverytest.Close(t, host.registration)
	}
	eventually.True(t, "no more calls to instances that are gone from the registry and from the network", inARow(30))
}

// TestAZoneWhoseInstancesDoNotServeIsLeft sets the health of the only instance in the
// caller's zone to NOT_SERVING.
func TestAZoneWhoseInstancesDoNotServeIsLeft(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var near, far atomic.Int64
	own := health.NewServer()
	serveAny(t, registry, func(apis grpc.ServiceRegistrar) {
		(&echo{echo: counting(&near)}).register(apis)
		grpc_health_v1.RegisterHealthServer(apis, own)
	}, framework.Zone("a"))
	serve(t, registry, &echo{echo: counting(&far)}, framework.Zone("b"))
	serving(t, registry, 2)
	bus := newBus(t, registry, framework.Zone("a"))
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	until := func(what string, called *atomic.Int64) {
		eventually.True(t, what+" is called", func() bool {
			before := called.Load()
			_, err := client.Echo(t.Context(), &testv1.EchoRequest{})
			return err == nil && called.Load() > before
		})
	}
	until("the caller's zone", &near)
	own.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	until("the other zone", &far)
	own.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	until("the caller's zone, once it serves again,", &near)
}
