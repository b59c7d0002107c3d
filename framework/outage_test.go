package framework_test

import (
	"flag"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// longOutage is how long etcd is out of reach; 8 s are enough for all pauses between
// attempts to have their longest, as they have after minutes.
var longOutage = flag.Duration("outage", 8*time.Second, "how long etcd is out of reach in TestNoCallFailsForAnOutageOfEtcd")

// TestNoCallFailsForAnOutageOfEtcd cuts a service and its caller off from etcd
// for longer than the lease, so that the caller, when it is back, finds an API
// without an instance.
func TestNoCallFailsForAnOutageOfEtcd(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	end := calledOn(t, c)
	registered := func() bool {
		found, err := direct.Get(t.Context(), "onecall/apis/test.echo/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		return len(found.Kvs) > 0
	}
	for _, longer := range []time.Duration{0, *longOutage} {
		c.Member(0).Cut()
		for registered() {
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(longer)
		c.Member(0).Heal()
		began := time.Now()
		for !registered() {
			time.Sleep(10 * time.Millisecond)
		}
		took := time.Since(began)
		t.Logf("registered %v after etcd's return", took)
		if took > 5*time.Second {
			t.Error("want 5 s at most")
		}
	}
	end()
}

// TestNoCallFailsWhileMembersComeAndGo has each member of a cluster of three stop and
// start again, its leader first.
func TestNoCallFailsWhileMembersComeAndGo(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	end := calledOn(t, c)
	leader := c.Leader()
	members := []*cluster.Member{leader}
	for i := range 3 {
		if c.Member(i) != leader {
			members = append(members, c.Member(i))
		}
	}
	for _, member := range members {
		member.Stop()
		c.Leader()
		member.Start()
	}
	end()
}

// TestAnIdleBusRemembersInstances has connections be idle for longer than grpc-go keeps
// them, which is half an hour unless an option says otherwise, and etcd out of reach
// when they are needed again.
func TestAnIdleBusRemembersInstances(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	service, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close() })
	serveAny(t, service, (&echo{}).register)
	registry := &counted{Registry: openEtcd(t, c.Endpoints()...)}
	bus := newBus(t, registry, framework.DialOptions(grpc.WithIdleTimeout(100*time.Millisecond)))
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	for registry.watches.Load() > 1 { // until grpc-go's has ended, and it is idle
		time.Sleep(10 * time.Millisecond)
	}
	c.Member(0).Cut()
	discoverytest.Watch(t, registry.Registry, "another").Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Errorf("the instance is there and was known, and a call gives %v", err)
	}
	c.Member(0).Heal()
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
	if left := registry.watches.Load(); left != 0 {
		t.Errorf("%d watches are left of the bus", left)
	}
}

// calledOn serves test.echo on a cluster and calls it until end, which waits until the
// caller finds the instance in etcd. The test fails if a call does.
func calledOn(t *testing.T, c *cluster.Cluster) (end func()) {
	t.Helper()
	service, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), TTL: 2 * time.Second, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close() })
	serveAny(t, service, (&echo{}).register)
	registry := openEtcd(t, c.Endpoints()...)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	var calling sync.WaitGroup
	ended := make(chan struct{})
	calling.Go(func() {
		for calls := 0; ; calls++ {
			select {
			case <-ended:
				t.Logf("%d calls", calls)
				return
			default:
			}
			if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
				t.Errorf("call %d = %v", calls, err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	return func() {
		discoverytest.Watch(t, registry, "test.echo").Until(t, "an instance, and etcd in reach", func(s discovery.Snapshot) bool {
			return len(s.Instances) == 1 && s.Unreachable == nil
		})
		time.Sleep(100 * time.Millisecond) // some calls more
		close(ended)
		calling.Wait()
	}
}
