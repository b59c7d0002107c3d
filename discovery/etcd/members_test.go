package etcd_test

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
)

// TestFrozenMembersAreNotAnUnreachableEtcd asks for new APIs while two of three members
// accept and say nothing to clients.
func TestFrozenMembersAreNotAnUnreachableEtcd(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	registry := openOn(t, c, 0)
	registry.ListWithin(100*time.Millisecond, eventually.Limit) // a busy machine may need the second attempt too
	discoverytest.Watch(t, registry, "before").Until(t, "an answer", func(s discovery.Snapshot) bool { return s.Unreachable == nil })
	c.Member(1).Freeze()
	c.Member(2).Freeze()
	for i := range 8 { // most of them ask a frozen member first
		watched := discoverytest.Watch(t, registry, fmt.Sprint("api", i))
		watched.Until(t, "an answer", func(s discovery.Snapshot) bool { return s.Unreachable == nil })
		if told := watched.Snapshots(); len(told) != 1 {
			t.Errorf("asked for API %d, told %+v", i, told)
		}
	}
}

// TestNoLeaseIsLostToOneFrozenMember freezes one of three members while many
// services keep their leases alive, a third of them over that one.
func TestNoLeaseIsLostToOneFrozenMember(t *testing.T) {
	t.Parallel()
	const services = 30
	c := cluster.Start(t, 3)
	direct := c.Direct()
	// Etcd's clock is the subject. A lease lasts 100 times as long as a registration
	// takes here, so that no busy machine is taken for a frozen member.
	began := time.Now()
	for i := range services {
		discoverytest.Close(t, discoverytest.Register(t, openOn(t, c, 0), discoverytest.Instance(fmt.Sprint("other", i), "10.0.0.1:1")))
	}
	ttl := min(max(5*time.Second, (time.Since(began)*100/services).Round(time.Second)), time.Minute)
	leases := make(map[string]clientv3.LeaseID)
	for i := range services {
		api := fmt.Sprint("api", i)
		discoverytest.Register(t, openOn(t, c, ttl), discoverytest.Instance(api, "10.0.0.1:1"))
		leases[api] = leaseOf(t, direct, "onecall", api)
		time.Sleep(ttl / 3 / services) // so that each is at another point
	}
	c.Member(1).Freeze()
	time.Sleep(ttl * 3 / 2)
	for api, before := range leases {
		if now := leaseOf(t, direct, "onecall", api); now != before {
			t.Errorf("%s had the lease %x, and has %x", api, before, now)
		}
	}
}
