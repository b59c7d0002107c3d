package framework_test

import (
	"context"
	"flag"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// longOutage is how long etcd is unavailable.
var longOutage = flag.Duration("outage", time.Minute, "how long etcd is out of reach in BenchmarkSoakOutage")

// TestNoCallFailsForAnOutageOfEtcd cuts a service and its caller off from etcd
// for longer than the lease, so that the caller, when it is back, finds an API
// without an instance.
func TestNoCallFailsForAnOutageOfEtcd(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	called := calledOn(t, c)
	outage(t, c, called, 0)
	called.end(t)
}

// BenchmarkSoakOutage makes etcd unavailable for a time, in which calls must not fail. It
// measures how soon afterwards the service is registered again.
func BenchmarkSoakOutage(b *testing.B) {
	for b.Loop() {
		c := cluster.Start(b, 1)
		called := calledOn(b, c)
		b.ReportMetric(outage(b, c, called, *longOutage).Seconds(), "s-until-registered")
		called.end(b)
		b.ReportMetric(float64(called.calls.Load()), "calls")
	}
}

// outage cuts etcd off until the service's lease has ended, and for some time longer.
// It returns the time from the end of the outage until the service is registered again.
func outage(tb testing.TB, c *cluster.Cluster, called *traffic, longer time.Duration) time.Duration {
	tb.Helper()
	direct := c.Direct()
	registered := func() bool {
		found, err := direct.Get(tb.Context(), "onecall/apis/test.echo/", clientv3.WithPrefix())
		if err != nil {
			tb.Fatal(err)
		}
		return len(found.Kvs) > 0
	}
	c.Member(0).Cut()
	eventually.True(tb, "the end of the lease", func() bool { return !registered() })
	time.Sleep(longer)
	called.more(tb)
	c.Member(0).Heal()
	began := time.Now()
	eventually.True(tb, "a registration", registered)
	return time.Since(began)
}

// TestNoCallFailsWhileMembersComeAndGo stops and restarts each member of a cluster of
// three, the leader first.
func TestNoCallFailsWhileMembersComeAndGo(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	called := calledOn(t, c)
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
	called.end(t)
}

// TestAnIdleBusRemembersInstances leaves connections idle until grpc-go closes them, by
// default after half an hour. When they are needed again, etcd is unavailable.
func TestAnIdleBusRemembersInstances(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	service, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close() })
	serveAny(t, service, (&echo{}).register, framework.ShutdownTimeout(eventually.Limit))
	registry := &counted{Registry: openEtcd(t, c.Endpoints()...)}
	bus := newBus(t, registry, framework.DialOptions(grpc.WithIdleTimeout(100*time.Millisecond)))
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	eventually.True(t, "the end of grpc-go's watch, as it is idle", func() bool { return registry.watches.Load() <= 1 })
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

// traffic is a service of test.echo that is called all the time. If a call fails, the
// test fails.
type traffic struct {
	watched *discoverytest.Watched
	calls   atomic.Int64 // that were answered
	stop    func()
}

// calledOn serves test.echo on a cluster and calls it.
func calledOn(tb testing.TB, c *cluster.Cluster) *traffic {
	tb.Helper()
	service, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), TTL: 2 * time.Second, Logger: discard})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = service.Close() })
	serveAny(tb, service, (&echo{}).register, framework.ShutdownTimeout(eventually.Limit))
	registry := openEtcd(tb, c.Endpoints()...)
	bus := newBus(tb, registry)
	ready(tb, bus, "test.echo")
	out := &traffic{watched: discoverytest.Watch(tb, registry, "test.echo")}
	client := testv1.NewEchoServiceClient(bus)
	ending, end := context.WithCancel(context.Background())
	var calling sync.WaitGroup
	calling.Go(func() {
		pause := time.NewTicker(time.Millisecond)
		defer pause.Stop()
		for ending.Err() == nil {
			if _, err := client.Echo(tb.Context(), &testv1.EchoRequest{}); err != nil {
				tb.Errorf("call %d = %v", out.calls.Load(), err)
				return
			}
			out.calls.Add(1)
			<-pause.C
		}
	})
	out.stop = func() {
		end()
		calling.Wait()
	}
	tb.Cleanup(out.stop)
	return out
}

// more waits until some more calls were answered.
func (c *traffic) more(tb testing.TB) {
	tb.Helper()
	want := c.calls.Load() + 50
	eventually.True(tb, "some more calls", func() bool { return c.calls.Load() >= want || tb.Failed() })
}

// end ends the calls after the caller has found the instance in etcd and called it.
func (c *traffic) end(tb testing.TB) {
	tb.Helper()
	c.watched.Until(tb, "an instance, and etcd in reach", func(s discovery.Snapshot) bool {
		return len(s.Instances) == 1 && s.Unreachable == nil
	})
	c.more(tb)
	c.stop()
}
