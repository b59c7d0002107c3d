package etcd_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
)

// openOn opens a registry on a cluster, for the length of the test.
func openOn(tb testing.TB, c *cluster.Cluster, ttl time.Duration) *etcd.Registry {
	tb.Helper()
	registry, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), TTL: ttl, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = registry.Close() })
	return registry
}

// long is a TTL so long that a lease is neither renewed nor compared with what is
// in etcd while a test runs, unless something has the registrar do that.
const long = 10 * eventually.Limit

// untilStatus waits until the status of a registration is as wanted.
func untilStatus(t *testing.T, registration discovery.Registration, what string, is func(discovery.Status) bool) {
	t.Helper()
	eventually.True(t, "a status that says "+what, func() bool { return is(registration.Status()) })
}

// untilRegistered waits until a registration is in etcd and nothing is wrong with it.
func untilRegistered(t *testing.T, registration discovery.Registration) {
	t.Helper()
	untilStatus(t, registration, "registered", func(s discovery.Status) bool { return s.Registered && s.Err == nil })
}

// untilError waits until the status of a registration has an error with this text.
func untilError(t *testing.T, registration discovery.Registration, text string) {
	t.Helper()
	untilStatus(t, registration, "an error with "+text, func(s discovery.Status) bool { return s.Err != nil && strings.Contains(s.Err.Error(), text) })
}

// untilKeptFor waits until a lease was kept alive for a time longer than it lasts.
func untilKeptFor(t *testing.T, registration discovery.Registration, longer time.Duration) {
	t.Helper()
	end := registration.Status().Expires.Add(longer)
	eventually.True(t, "the lease is kept alive", func() bool { return registration.Status().Expires.After(end) })
}

// live returns how many keys an API has, and how many of them under a lease that
// lives.
func live(tb testing.TB, direct *clientv3.Client, api string) (keys, alive int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), eventually.Limit)
	defer cancel()
	reply, err := direct.Get(ctx, "onecall/apis/"+api+"/", clientv3.WithPrefix())
	if err != nil {
		tb.Fatal(err)
	}
	for _, kv := range reply.Kvs {
		lease, err := direct.TimeToLive(ctx, clientv3.LeaseID(kv.GetLease()))
		if err == nil && kv.GetLease() != 0 && lease.TTL > 0 {
			alive++
		}
	}
	return len(reply.Kvs), alive
}

// leaseOf returns the lease of an API's only key, 0 when there is none.
func leaseOf(t *testing.T, direct *clientv3.Client, namespace, api string) clientv3.LeaseID {
	t.Helper()
	for _, kv := range entries(t, direct, namespace, api) {
		return clientv3.LeaseID(kv.GetLease())
	}
	return 0
}

func oneLiveKey(tb testing.TB, direct *clientv3.Client, api string) func() bool {
	tb.Helper()
	return func() bool {
		keys, alive := live(tb, direct, api)
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
	untilError(t, registration, "")
	if registration.Status().Registered {
		t.Error("without etcd the status says registered")
	}
	c.Member(0).Start()
	untilRegistered(t, registration)
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
		t.Run(fault.name, func(t *testing.T) {
			fault.begin()
			registry := openOn(t, c, 0)
			watched := discoverytest.Watch(t, registry, "auth")
			watched.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
			other := discoverytest.Watch(t, registry, "billing") // a later observer receives the same
			other.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
			fault.end()
			watched.Until(t, "an API that was never served", func(s discovery.Snapshot) bool { return s.Unreachable == nil && !s.Known })
			fault.begin()
			eventually.Returns(t, "Close", func() { _ = registry.Close() })
			fault.end()
		})
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
	eventually.True(t, "gone from etcd", func() bool { keys, _ := live(t, direct, "auth"); return keys == 0 })
	untilStatus(t, registration, "not registered, and why", func(s discovery.Status) bool { return !s.Registered && s.Err != nil })
	cut := len(watched.Snapshots())
	c.Member(0).Heal()
	eventually.True(t, "one live key", oneLiveKey(t, direct, "auth"))
	watched.UntilAddresses(t, "10.0.0.1:1")
	for _, snapshot := range watched.Snapshots()[:cut] {
		if len(snapshot.Instances) == 0 && snapshot.Known {
			t.Errorf("while etcd was away the caller was notified of %+v", snapshot)
		}
	}
	untilRegistered(t, registration)
}

// TestAnOutageOfEtcdItself stops etcd for longer than the lease: what etcd kept
// lives on.
func TestAnOutageOfEtcdItself(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	began := time.Now()
	c.Member(0).Stop()
	c.Member(0).Start()
	// An etcd that stops goes on ending leases meanwhile.
	ttl := max(4*time.Second, 5*time.Since(began).Round(time.Second))
	direct := c.Direct()
	registration := discoverytest.Register(t, openOn(t, c, ttl), discoverytest.Instance("auth", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, openOn(t, c, 0), "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")
	c.Member(0).Stop()
	watched.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
	time.Sleep(time.Until(registration.Status().Expires)) // etcd's clock is the subject
	c.Member(0).Start()
	eventually.True(t, "one live key", oneLiveKey(t, direct, "auth"))
	watched.Until(t, "a reachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable == nil })
	untilRegistered(t, registration)
	untilKeptFor(t, registration, ttl)
	if keys, alive := live(t, direct, "auth"); keys != 1 || alive != 1 {
		t.Errorf("%d keys, %d of them alive, want one", keys, alive)
	}
	for i, snapshot := range watched.Snapshots() {
		if i > 0 && len(snapshot.Instances) != 1 {
			t.Errorf("the caller was notified of %+v", snapshot)
		}
	}
}

func TestALeaseThatIsRevokedByHand(t *testing.T) {
	t.Parallel()
	namespace := newNamespace()
	direct := client(t, shared)
	registry, err := etcd.Open(etcd.Config{Endpoints: shared.Endpoints(), Namespace: namespace, TTL: long, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	one, two := discoverytest.Instance("auth", "10.0.0.1:1"), discoverytest.Instance("billing", "10.0.0.1:1")
	discoverytest.Register(t, registry, one, two)
	for i := range 3 {
		before := leaseOf(t, direct, namespace, "auth")
		// The registrar watches a key before it writes the next.
		discoverytest.Register(t, registry, discoverytest.Instance(fmt.Sprint("next", i), "10.0.0.1:1"))
		if _, err := direct.Revoke(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		for _, api := range []string{"auth", "billing"} {
			eventually.True(t, "back", func() bool {
				now := leaseOf(t, direct, namespace, api)
				return now != 0 && now != before
			})
		}
	}
}

func TestAKeyThatIsDeletedOrChangedByHand(t *testing.T) {
	t.Parallel()
	direct := client(t, shared)
	for _, key := range []string{"/apis/auth/", "/apis/billing/", "/schemas/auth/"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			namespace := newNamespace()
			instance := discoverytest.Instance("auth", "10.0.0.1:1")
			instance.Descriptors = "compressed"
			discoverytest.Register(t, open(t, shared, namespace), instance, discoverytest.Instance("billing", "10.0.0.1:1"))
			before, err := direct.Get(t.Context(), namespace+key, clientv3.WithPrefix())
			if err != nil || len(before.Kvs) != 1 {
				t.Fatalf("%v, %v", before, err)
			}
			as := func() bool {
				now, err := direct.Get(t.Context(), string(before.Kvs[0].GetKey()))
				return err == nil && len(now.Kvs) == 1 && now.Kvs[0].GetLease() != 0 && bytes.Equal(now.Kvs[0].GetValue(), before.Kvs[0].GetValue())
			}
			if _, err := direct.Delete(t.Context(), string(before.Kvs[0].GetKey())); err != nil {
				t.Fatal(err)
			}
			eventually.True(t, "back", as)
			if _, err := direct.Put(t.Context(), string(before.Kvs[0].GetKey()), "another's"); err != nil {
				t.Fatal(err)
			}
			eventually.True(t, "as it was", as)
		})
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
	eventually.True(t, "two live keys", func() bool { keys, alive := live(t, c.Direct(), "auth"); return keys == 2 && alive == 2 })
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
	before := len(watched.Snapshots()) - 1
	direct := c.Direct()
	leader := c.Leader()
	leader.Shutdown()
	c.Leader()
	eventually.True(t, "one live key", oneLiveKey(t, direct, "auth"))
	leader.Start()
	for i := range 3 {
		c.Member(i).Stop()
		c.Leader()
		c.Member(i).Start()
		eventually.True(t, "one live key", oneLiveKey(t, direct, "auth"))
	}
	untilRegistered(t, registration)
	other := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.2:1"))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")
	for _, snapshot := range watched.Snapshots()[before:] {
		if len(snapshot.Instances) == 0 {
			t.Errorf("while members came and went the caller was notified of %+v", snapshot)
		}
	}

	// Without a leader nothing can be written, which is reported, and ends.
	c.Member(0).Stop()
	c.Member(1).Stop()
	untilError(t, registration, "")
	watched.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil && len(s.Instances) == 2 })
	c.Member(0).Start()
	c.Member(1).Start()
	untilRegistered(t, registration)
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
	eventually.True(t, "gone by its lease", func() bool { keys, _ := live(t, direct, "auth"); return keys == 0 })
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
	untilError(t, registration, "database space exceeded")
	alarm(t, direct, pb.AlarmRequest_DEACTIVATE)
	untilRegistered(t, registration)
	discoverytest.Close(t, registration)
}
