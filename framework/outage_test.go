package framework_test

import (
	"context"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestNoCallFailsForAnOutageOfEtcd cuts a service and its caller off from etcd
// for longer than the lease, so that the caller, when it is back, finds an API
// without an instance.
func TestNoCallFailsForAnOutageOfEtcd(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	service, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), TTL: 2 * time.Second, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close() })
	ctx, stop := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() { returned <- framework.Serve(ctx, service, (&echo{}).register, quiet) }()
	t.Cleanup(func() {
		stop()
		if err := <-returned; err != nil {
			t.Error(err)
		}
	})
	registry := openEtcd(t, c.Endpoints()...)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)

	var calling sync.WaitGroup
	end := make(chan struct{})
	calling.Go(func() {
		for calls := 0; ; calls++ {
			select {
			case <-end:
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
	registered := func() bool {
		found, err := direct.Get(t.Context(), "onecall/apis/test.echo/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		return len(found.Kvs) > 0
	}
	for range 2 {
		c.Member(0).Cut()
		for registered() {
			time.Sleep(50 * time.Millisecond)
		}
		c.Member(0).Heal()
		for !registered() {
			time.Sleep(10 * time.Millisecond)
		}
	}
	discoverytest.Watch(t, registry, "test.echo").Until(t, "an instance, and etcd in reach", func(s discovery.Snapshot) bool {
		return len(s.Instances) == 1 && s.Unreachable == nil
	})
	time.Sleep(100 * time.Millisecond) // some calls more
	close(end)
	calling.Wait()
}
