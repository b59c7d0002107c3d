package etcd_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
)

// openOn opens a registry on a cluster, for the length of the test.
func openOn(t *testing.T, c *cluster.Cluster, ttl time.Duration) *etcd.Registry {
	t.Helper()
	registry, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), TTL: ttl, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry
}

// within waits until is holds, and fails when that takes longer than limit.
func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > limit {
			t.Fatalf("after %v not %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// live gives how many keys an API has, and how many of them under a lease that
// lives.
func live(t *testing.T, direct *clientv3.Client, api string) (keys, alive int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	reply, err := direct.Get(ctx, "onecall/apis/"+api+"/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range reply.Kvs {
		lease, err := direct.TimeToLive(ctx, clientv3.LeaseID(kv.GetLease()))
		if err == nil && kv.GetLease() != 0 && lease.TTL > 0 {
			alive++
		}
	}
	return len(reply.Kvs), alive
}

// leaseOf gives the lease of an API's only key, 0 when there is none.
func leaseOf(t *testing.T, direct *clientv3.Client, namespace, api string) clientv3.LeaseID {
	t.Helper()
	for _, kv := range entries(t, direct, namespace, api) {
		return clientv3.LeaseID(kv.GetLease())
	}
	return 0
}

func oneLiveKey(t *testing.T, direct *clientv3.Client, api string) func() bool {
	t.Helper()
	return func() bool {
		keys, alive := live(t, direct, api)
		return keys == 1 && alive == 1
	}
}

func TestEtcdDownWhenAServiceStarts(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	c.Member(0).Stop()
	registration, err := openOn(t, c, 0).Register(discoverytest.Instance("auth", "10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // it backs off as far as it will
	if status := registration.Status(); status.Registered || status.Err == nil {
		t.Errorf("without etcd the status is %+v", status)
	}
	c.Member(0).Start()
	select {
	case <-registration.Registered():
	case <-time.After(2 * time.Second):
		t.Fatalf("2 s after etcd is there the status is %+v", registration.Status())
	}
	if status := registration.Status(); !status.Registered || status.Err != nil || time.Until(status.Expires) <= 0 || time.Until(status.Expires) > etcd.DefaultTTL {
		t.Errorf("the status is %+v, want registered for the next %v", status, etcd.DefaultTTL)
	}
	discoverytest.Close(t, registration)
}

func TestEtcdSilentWhenACallerStarts(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	for _, fault := range []struct {
		name       string
		begin, end func()
	}{
		{"down", c.Member(0).Cut, c.Member(0).Heal},
		{"silent", c.Member(0).Silence, c.Member(0).Speak},
	} {
		fault.begin()
		registry := openOn(t, c, 0)
		began := time.Now()
		watched := discoverytest.Watch(t, registry, "auth")
		watched.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("%s: the first answer took %v", fault.name, took)
		}
		other := discoverytest.Watch(t, registry, "billing") // who asks later is told the same
		other.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
		fault.end()
		watched.Until(t, "an API that nobody served", func(s discovery.Snapshot) bool { return s.Unreachable == nil && !s.Known })
		fault.begin()
		began = time.Now()
		_ = registry.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: Close took %v", fault.name, took)
		}
		fault.end()
	}
}

// TestAnOutageThatOutlivesTheLease cuts a service off for longer than its lease,
// and a caller from before that until after.
func TestAnOutageThatOutlivesTheLease(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	service, caller := openOn(t, c, 2*time.Second), openOn(t, c, 2*time.Second)
	registration := discoverytest.Register(t, service, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, caller, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")
	c.Member(0).Cut()
	within(t, 10*time.Second, "gone from etcd", func() bool { keys, _ := live(t, direct, "auth"); return keys == 0 })
	status := registration.Status()
	for ; status.Registered || status.Err == nil; status = registration.Status() {
		<-status.Changed
	}
	cut := len(watched.Snapshots())
	c.Member(0).Heal()
	within(t, 5*time.Second, "one live key", oneLiveKey(t, direct, "auth"))
	watched.UntilAddresses(t, "10.0.0.1:1")
	for _, snapshot := range watched.Snapshots()[:cut] {
		if len(snapshot.Instances) == 0 && snapshot.Known {
			t.Errorf("while etcd was away the caller was told of %+v", snapshot)
		}
	}
	within(t, 5*time.Second, "registered", func() bool { return registration.Status().Registered })
}

// TestAnOutageOfEtcdItself stops etcd for longer than the lease: what etcd kept
// lives on.
func TestAnOutageOfEtcdItself(t *testing.T) {
	t.Parallel()
	const ttl = 6 * time.Second // an etcd that stops goes on ending leases for some seconds
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry := openOn(t, c, ttl)
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, openOn(t, c, 0), "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")
	c.Member(0).Stop()
	watched.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
	time.Sleep(ttl)
	c.Member(0).Start()
	within(t, 5*time.Second, "one live key", oneLiveKey(t, direct, "auth"))
	watched.Until(t, "a reachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable == nil })
	time.Sleep(ttl + time.Second)
	if keys, alive := live(t, direct, "auth"); keys != 1 || alive != 1 {
		t.Errorf("%d keys, %d of them alive, want one", keys, alive)
	}
	for i, snapshot := range watched.Snapshots() {
		if i > 0 && len(snapshot.Instances) != 1 {
			t.Errorf("the caller was told of %+v", snapshot)
		}
	}
}

func TestALeaseThatIsRevokedByHand(t *testing.T) {
	t.Parallel()
	namespace := newNamespace()
	direct := client(t, shared)
	registry, err := etcd.Open(etcd.Config{Endpoints: shared.Endpoints(), Namespace: namespace, Logger: slog.New(slog.DiscardHandler)}) // the default TTL
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	one, two := discoverytest.Instance("auth", "10.0.0.1:1"), discoverytest.Instance("billing", "10.0.0.1:1")
	discoverytest.Register(t, registry, one, two)
	for range 3 {
		before := leaseOf(t, direct, namespace, "auth")
		time.Sleep(100 * time.Millisecond) // it watches by now, or it mends this at the next check
		if _, err := direct.Revoke(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		for _, api := range []string{"auth", "billing"} {
			within(t, 2*time.Second, "back", func() bool {
				now := leaseOf(t, direct, namespace, api)
				return now != 0 && now != before
			})
		}
	}
}

func TestAKeyThatIsDeletedOrChangedByHand(t *testing.T) {
	t.Parallel()
	const ttl = 3 * time.Second
	namespace := newNamespace()
	direct := client(t, shared)
	registry := open(t, shared, namespace)
	instance := discoverytest.Instance("auth", "10.0.0.1:1")
	instance.Descriptors = "compressed"
	discoverytest.Register(t, registry, instance, discoverytest.Instance("billing", "10.0.0.1:1"))
	for _, key := range []string{"/apis/auth/", "/apis/billing/", "/schemas/auth/"} {
		before, err := direct.Get(t.Context(), namespace+key, clientv3.WithPrefix())
		if err != nil || len(before.Kvs) != 1 {
			t.Fatalf("%s: %v, %v", key, before, err)
		}
		as := func() bool {
			now, err := direct.Get(t.Context(), string(before.Kvs[0].GetKey()))
			return err == nil && len(now.Kvs) == 1 && now.Kvs[0].GetLease() == before.Kvs[0].GetLease() && bytes.Equal(now.Kvs[0].GetValue(), before.Kvs[0].GetValue())
		}
		if _, err := direct.Delete(t.Context(), string(before.Kvs[0].GetKey())); err != nil {
			t.Fatal(err)
		}
		within(t, ttl+time.Second, "back", as)
		if _, err := direct.Put(t.Context(), string(before.Kvs[0].GetKey()), "another's"); err != nil {
			t.Fatal(err)
		}
		within(t, ttl+time.Second, "as it was", as)
	}
}

// TestAThousandFlaps cuts the connection again and again, at any moment of what
// registrar and watcher do. It counts goroutines and memory, so no other test runs
// beside it.
func TestAThousandFlaps(t *testing.T) {
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry := openOn(t, c, 2*time.Second)
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"), discoverytest.Instance("billing", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, registry, "auth")
	flap := func(times int) {
		for i := range times {
			c.Member(0).Cut()
			if i%100 == 99 {
				time.Sleep(50 * time.Millisecond)
			}
			c.Member(0).Heal()
			time.Sleep(time.Duration(i%20) * time.Millisecond)
		}
	}
	settle := func() (goroutines int, heap uint64) {
		for _, api := range []string{"auth", "billing"} {
			within(t, 10*time.Second, "one live key", oneLiveKey(t, direct, api))
		}
		watched.Until(t, "a reachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable == nil && len(s.Instances) == 1 })
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		return cluster.Goroutines(), memory.HeapAlloc
	}
	flap(100)
	goroutines, heap := settle()
	flap(900)
	within(t, 10*time.Second, "as many goroutines as before", func() bool {
		now, _ := settle()
		return now <= goroutines+45 // less than a leak in one flap of twenty; with the streams that are open they vary by 16
	})
	if _, now := settle(); now > heap+32<<20 {
		t.Errorf("the heap grew from %d to %d MB", heap>>20, now>>20)
	}
	leases, err := direct.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	alive := 0
	for _, lease := range leases.Leases {
		if left, err := direct.TimeToLive(t.Context(), lease.ID, clientv3.WithAttachedKeys()); err == nil && len(left.Keys) > 0 {
			alive++
		}
	}
	if alive != 1 {
		t.Errorf("%d leases have keys, want one", alive)
	}
	time.Sleep(3 * time.Second) // leases that were granted in vain end
	if leases, err = direct.Leases(t.Context()); err != nil || len(leases.Leases) != 1 {
		t.Errorf("%v leases are left (%v), want one", leases, err)
	}
}

func TestACompactionWhileTheWatchIsOut(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	put := func(address string) (key string) {
		key = "onecall/apis/auth/" + strings.ReplaceAll(address, ":", "-")
		if _, err := direct.Put(t.Context(), key, fmt.Sprintf(`{"Op":0,"Addr":%q}`, address)); err != nil {
			t.Fatal(err)
		}
		return key
	}
	first, _ := put("10.0.0.1:1"), put("10.0.0.2:1")
	watched := discoverytest.Watch(t, openOn(t, c, 0), "auth")
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")
	c.Member(0).Cut()
	if _, err := direct.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	put("10.0.0.3:1")
	now, err := direct.Get(t.Context(), "any")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := direct.Compact(t.Context(), now.Header.GetRevision(), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	c.Member(0).Heal()
	watched.UntilAddresses(t, "10.0.0.2:1", "10.0.0.3:1")
	put("10.0.0.4:1") // and it watches on
	watched.UntilAddresses(t, "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1")
}

// TestAStoreFromABackup has etcd come back with an older revision than callers
// know.
func TestAStoreFromABackup(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	service, caller := openOn(t, c, 2*time.Second), openOn(t, c, 2*time.Second)
	caller.RepairEvery(500 * time.Millisecond)
	discoverytest.Register(t, service, discoverytest.Instance("auth", "10.0.0.1:1"))
	for range 100 {
		if _, err := direct.Put(t.Context(), "other", "value"); err != nil {
			t.Fatal(err)
		}
	}
	watched := discoverytest.Watch(t, caller, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")
	c.Member(0).Forget()
	discoverytest.Register(t, service, discoverytest.Instance("auth", "10.0.0.2:1"))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")
	within(t, 5*time.Second, "two live keys", func() bool { keys, alive := live(t, c.Direct(), "auth"); return keys == 2 && alive == 2 })
}

// TestMembersComeAndGo has a cluster of three lose its leader, and then each of
// its members by turns.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 3)
	registry := openOn(t, c, 5*time.Second)
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, openOn(t, c, 0), "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")
	told := len(watched.Snapshots()) - 1
	direct := c.Direct()
	leader := c.Leader()
	leader.Stop()
	c.Leader()
	within(t, 10*time.Second, "one live key", oneLiveKey(t, direct, "auth"))
	leader.Start()
	for i := range 3 {
		c.Member(i).Stop()
		c.Leader()
		c.Member(i).Start()
		within(t, 10*time.Second, "one live key", oneLiveKey(t, direct, "auth"))
	}
	within(t, 10*time.Second, "registered", func() bool { status := registration.Status(); return status.Registered && status.Err == nil })
	other := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.2:1"))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")
	for _, snapshot := range watched.Snapshots()[told:] {
		if len(snapshot.Instances) == 0 {
			t.Errorf("while members came and went the caller was told of %+v", snapshot)
		}
	}

	// Without a leader nothing can be written, which is told and mended.
	c.Member(0).Stop()
	c.Member(1).Stop()
	for status := registration.Status(); status.Err == nil; status = registration.Status() {
		<-status.Changed
	}
	watched.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil && len(s.Instances) == 2 })
	c.Member(0).Start()
	c.Member(1).Start()
	within(t, 20*time.Second, "registered", func() bool { status := registration.Status(); return status.Registered && status.Err == nil })
	watched.Until(t, "a reachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable == nil && len(s.Instances) == 2 })
	discoverytest.Close(t, other)
	watched.UntilAddresses(t, "10.0.0.1:1")
}

func TestValuesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	namespace := newNamespace()
	direct := client(t, shared)
	registry := open(t, shared, namespace)
	bad := map[string]string{
		"json": "not JSON", "huge": `{"Addr":"10.0.0.1:1","Metadata":"` + strings.Repeat("x", 1<<20) + `"}`,
		"empty": `{"Addr":""}`, "every": `{"Addr":"0.0.0.0:0"}`, "port": `{"Addr":"10.0.0.1:99999"}`,
	}
	for name, value := range bad {
		if _, err := direct.Put(t.Context(), namespace+"/apis/user/"+name, value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := direct.Put(t.Context(), namespace+"/apis/user-admin/a", `{"Addr":"10.0.0.66:1"}`); err != nil {
		t.Fatal(err)
	}
	const many = 10_000
	want := make([]string, many)
	var puts []clientv3.Op
	for i := range many {
		want[i] = fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)
		puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s/apis/user/%d", namespace, i), fmt.Sprintf(`{"Addr":%q}`, want[i])))
	}
	for some := range slices.Chunk(puts, 128) {
		if _, err := direct.Txn(t.Context()).Then(some...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	watched := discoverytest.Watch(t, registry, "user")
	watched.UntilAddresses(t, want...)
	if skipped := registry.Stats().Skipped; skipped != uint64(len(bad)) {
		t.Errorf("%d entries were skipped, want %d", skipped, len(bad))
	}
	discoverytest.Watch(t, registry, "user-admin").UntilAddresses(t, "10.0.0.66:1")

	// A value that turns bad is no longer used, and one that turns good is.
	for key, value := range map[string]string{"0": "not JSON any more", "port": `{"Addr":"10.9.9.9:1"}`} {
		if _, err := direct.Put(t.Context(), namespace+"/apis/user/"+key, value); err != nil {
			t.Fatal(err)
		}
	}
	watched.Until(t, "the change", func(s discovery.Snapshot) bool {
		return len(s.Instances) == many && s.Instances[0].Address != "10.0.0.0:1" && s.Instances[many-1].Address == "10.9.9.9:1"
	})
}

// TestNothingIsLeftOfWhatIsClosedAtAnyMoment closes registrations while they are
// being made, with and without faults.
func TestNothingIsLeftOfWhatIsClosedAtAnyMoment(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry := openOn(t, c, 2*time.Second)
	var closing sync.WaitGroup
	for i := range 200 {
		registration, err := registry.Register(discoverytest.Instance("auth", fmt.Sprintf("10.0.0.%d:1", i+1)))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i%7) * time.Millisecond)
		if i%50 == 25 {
			c.Member(0).Cut()
		}
		closing.Go(func() { discoverytest.Close(t, registration) })
		if i%50 == 30 {
			c.Member(0).Heal()
		}
	}
	closing.Wait()
	if keys, _ := live(t, direct, "auth"); keys != 0 {
		t.Errorf("%d keys are left of registrations whose Close returned nil", keys)
	}
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	c.Member(0).Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := registration.Close(ctx); err == nil || !strings.Contains(err.Error(), "ends by its lease") {
		t.Errorf("Close without etcd = %v", err)
	}
	within(t, 5*time.Second, "gone by its lease", func() bool { keys, _ := live(t, direct, "auth"); return keys == 0 })
	c.Member(0).Heal()
}

// alarm has an etcd of one member say, or no longer, that it has no space left.
func alarm(t *testing.T, direct *clientv3.Client, action pb.AlarmRequest_AlarmAction) {
	t.Helper()
	status, err := direct.Status(t.Context(), direct.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = pb.NewMaintenanceClient(direct.ActiveConnection()).Alarm(t.Context(),
		&pb.AlarmRequest{Action: action, MemberID: status.Header.GetMemberId(), Alarm: pb.AlarmType_NOSPACE})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFatalAnswersAreReportedAndOutlived(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	alarm(t, direct, pb.AlarmRequest_ACTIVATE)
	registration, err := openOn(t, c, 2*time.Second).Register(discoverytest.Instance("auth", "10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	status := registration.Status()
	for ; status.Err == nil; status = registration.Status() {
		<-status.Changed
	}
	if !strings.Contains(status.Err.Error(), "database space exceeded") {
		t.Errorf("with no space left the status is %+v", status)
	}
	alarm(t, direct, pb.AlarmRequest_DEACTIVATE)
	within(t, 5*time.Second, "registered", func() bool { return registration.Status().Registered })
	discoverytest.Close(t, registration)
}
