package etcd_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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

// TestAPutWhoseAnswerIsLostIsRemovedAllTheSame has etcd take a put and say
// nothing, and the registration closed before anybody knows.
func TestAPutWhoseAnswerIsLostIsRemovedAllTheSame(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry := openOn(t, c, 6*time.Second)
	first := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1")) // which keeps the lease
	c.Member(0).Silence()
	second, err := registry.Register(discoverytest.Instance("billing", "10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "put", func() bool { keys, _ := live(t, direct, "billing"); return keys == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := second.Close(ctx); err == nil {
		t.Error("Close on a silent etcd is no error")
	}
	within(t, 10*time.Second, "given up", func() bool { return first.Status().Err != nil }) // the attempt to put it
	c.Member(0).Speak()
	discoverytest.Close(t, second)
	if keys, _ := live(t, direct, "billing"); keys != 0 {
		t.Errorf("after Close there are %d keys", keys)
	}
	within(t, 5*time.Second, "one live key", oneLiveKey(t, direct, "auth"))
}

func TestALeaseThatEndedUnheardIsNoRegistration(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry := openOn(t, c, 12*time.Second)
	instance := discoverytest.Instance("auth", "10.0.0.1:1")
	first := discoverytest.Register(t, registry, instance)
	c.Member(0).Silence()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := first.Close(ctx); err == nil {
		t.Error("Close on a silent etcd is no error")
	}
	within(t, 5*time.Second, "revoked", func() bool { keys, _ := live(t, direct, "auth"); return keys == 0 })
	again, err := registry.Register(instance)
	if err != nil {
		t.Fatal(err)
	}
	c.Member(0).Speak()
	select {
	case <-again.Registered():
	case <-time.After(20 * time.Second):
		t.Fatalf("the status is %+v", again.Status())
	}
	if keys, alive := live(t, direct, "auth"); keys != 1 || alive != 1 {
		t.Errorf("once it is registered there are %d keys, %d of them alive", keys, alive)
	}
	discoverytest.Close(t, again)
}

// TestARevokedLeaseIsNoticedAfterTheFirstRegistrationIsClosed closes the one whose
// key is watched.
func TestARevokedLeaseIsNoticedAfterTheFirstRegistrationIsClosed(t *testing.T) {
	t.Parallel()
	namespace := newNamespace()
	direct := client(t, shared)
	registry, err := etcd.Open(etcd.Config{Endpoints: shared.Endpoints(), Namespace: namespace, Logger: slog.New(slog.DiscardHandler)}) // the default TTL
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	first := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	time.Sleep(100 * time.Millisecond) // it watches by now
	discoverytest.Register(t, registry, discoverytest.Instance("billing", "10.0.0.2:1"))
	discoverytest.Close(t, first)
	time.Sleep(300 * time.Millisecond)
	before := leaseOf(t, direct, namespace, "billing")
	if _, err := direct.Revoke(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Second, "back", func() bool {
		now := leaseOf(t, direct, namespace, "billing")
		return now != 0 && now != before
	})
}

// TestWhatIsDeniedKeepsNothingElseFromEtcd registers an API that the user's role
// does not allow beside one that it does.
func TestWhatIsDeniedKeepsNothingElseFromEtcd(t *testing.T) {
	t.Parallel()
	server, root := withUsers(t, map[string][]string{"serve-auth": {"auth"}})
	registry := openAs(t, server, "serve-auth")
	foreign, err := registry.Register(discoverytest.Instance("billing", "10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	allowed := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	both, err := registry.Register(discoverytest.Instance("auth", "10.0.0.2:1"), discoverytest.Instance("billing", "10.0.0.2:1"))
	if err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "two keys", func() bool { keys, _ := live(t, root, "auth"); return keys == 2 })
	if status := foreign.Status(); status.Registered || status.Err == nil || !strings.Contains(status.Err.Error(), "permission denied") {
		t.Errorf("the status of what is denied is %+v", status)
	}
	if both.Status().Registered {
		t.Error("a registration of which a half is denied says that it is registered")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := allowed.Drain(ctx); err != nil {
		t.Error(err)
	}
	if err := foreign.Drain(ctx); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Drain of what is denied = %v", err)
	}
	for _, registration := range []discovery.Registration{allowed, both, foreign} {
		discoverytest.Close(t, registration)
	}
	if keys, _ := live(t, root, "auth"); keys != 0 {
		t.Errorf("after Close there are %d keys", keys)
	}
}

// TestAPermissionThatIsTakenAwayTakesNoOtherAPIAlong has a role lose one of two APIs
// that its user serves under one lease.
func TestAPermissionThatIsTakenAwayTakesNoOtherAPIAlong(t *testing.T) {
	t.Parallel()
	server, root := withUsers(t, map[string][]string{"serve": {"auth", "billing", "users"}})
	registry := openAs(t, server, "serve")
	lost := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	kept := discoverytest.Register(t, registry, discoverytest.Instance("billing", "10.0.0.1:1"))
	prefix := "onecall/apis/auth/"
	if _, err := root.RoleRevokePermission(t.Context(), "serve", prefix, clientv3.GetPrefixRangeEnd(prefix)); err != nil {
		t.Fatal(err)
	}
	for gone := false; !gone; {
		keys, alive := live(t, root, "billing")
		if keys != 1 || alive != 1 {
			t.Fatalf("an API that is allowed has %d keys, %d of them alive, want one", keys, alive)
		}
		keys, _ = live(t, root, "auth")
		gone = keys == 0
	}
	within(t, time.Second, "told", func() bool { return !lost.Status().Registered })
	if status := kept.Status(); !status.Registered {
		t.Errorf("the status of what is allowed is %+v", status)
	}
	discoverytest.Register(t, registry, discoverytest.Instance("users", "10.0.0.1:1"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := kept.Drain(ctx); err != nil {
		t.Error(err)
	}
}

// TestWhatMayNotBeRemovedKeepsNothingElseFromBeingWritten closes a registration after
// the role has lost its API.
func TestWhatMayNotBeRemovedKeepsNothingElseFromBeingWritten(t *testing.T) {
	t.Parallel()
	server, root := withUsers(t, map[string][]string{"serve": {"auth", "billing", "users"}})
	registry := openAs(t, server, "serve")
	lost := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	discoverytest.Register(t, registry, discoverytest.Instance("billing", "10.0.0.1:1"))
	prefix := "onecall/apis/auth/"
	if _, err := root.RoleRevokePermission(t.Context(), "serve", prefix, clientv3.GetPrefixRangeEnd(prefix)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := lost.Close(ctx); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Close of what may not be removed = %v", err)
	}
	discoverytest.Register(t, registry, discoverytest.Instance("users", "10.0.0.1:1"))
	within(t, 10*time.Second, "gone with the lease", func() bool { keys, _ := live(t, root, "auth"); return keys == 0 })
	if !oneLiveKey(t, root, "billing")() {
		t.Error("what is allowed went along")
	}
}

// TestAKeyThatIsGoneIsNotToldToStand has a key deleted that etcd has no space to take
// again.
func TestAKeyThatIsGoneIsNotToldToStand(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry, lines := openLogged(t, c)
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	alarm(t, direct, pb.AlarmRequest_ACTIVATE)
	if _, err := direct.Delete(t.Context(), "onecall/apis/auth/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "told", func() bool { return !registration.Status().Registered && registry.Stats().Registered == 0 })
	within(t, 5*time.Second, "refused", func() bool {
		err := registration.Status().Err
		return err != nil && strings.Contains(err.Error(), "database space exceeded")
	})
	if status := registration.Status(); status.Registered {
		t.Errorf("nothing stands there, and the status is %+v", status)
	}
	alarm(t, direct, pb.AlarmRequest_DEACTIVATE)
	within(t, 5*time.Second, "registered", func() bool { return registration.Status().Registered })
	for line, want := range map[string]int{"no longer registered": 1, `msg="registered in etcd`: 2} { // and nothing else in between
		if got := lines.count(line); got != want {
			t.Errorf("%d lines say %q, want %d", got, line, want)
		}
	}
}

// TestAKeyThatStandsTooLateIsRemoved has a put arrive after the removal of its key, as
// of a member that was frozen meanwhile.
func TestAKeyThatStandsTooLateIsRemoved(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	registry := open(t, shared, namespace)
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	second := discoverytest.Register(t, registry, discoverytest.Instance("billing", "10.0.0.1:1"))
	found := entries(t, direct, namespace, "billing")
	discoverytest.Close(t, second)
	for key, kv := range found {
		if _, err := direct.Put(t.Context(), key, string(kv.GetValue()), clientv3.WithLease(clientv3.LeaseID(kv.GetLease()))); err != nil {
			t.Fatal(err)
		}
	}
	if len(entries(t, direct, namespace, "billing")) != 1 {
		t.Fatal("nothing stands there")
	}
	within(t, 10*time.Second, "removed", func() bool { return len(entries(t, direct, namespace, "billing")) == 0 })
	if leaseOf(t, direct, namespace, "auth") == 0 {
		t.Error("what is still registered went along")
	}
}

// TestAnOutageIsOneLineInTheLog has etcd away for several attempts.
func TestAnOutageIsOneLineInTheLog(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	registry, lines := openLogged(t, c)
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	c.Member(0).Cut()
	within(t, 10*time.Second, "told", func() bool { status := registration.Status(); return !status.Registered && status.Err != nil })
	time.Sleep(2 * time.Second)
	c.Member(0).Heal()
	within(t, 10*time.Second, "registered", func() bool { status := registration.Status(); return status.Registered && status.Err == nil })
	for line, want := range map[string]int{"cannot write to etcd": 1, "writing to etcd works again": 1, "no longer registered": 1, "msg=\"registered in etcd": 2} {
		if got := lines.count(line); got != want {
			t.Errorf("%d lines say %q, want %d", got, line, want)
		}
	}
}

// openLogged opens a registry whose log is kept, for the length of the test.
func openLogged(t *testing.T, c *cluster.Cluster) (*etcd.Registry, *lockedLog) {
	t.Helper()
	lines := new(lockedLog)
	registry, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), TTL: 3 * time.Second, Logger: slog.New(slog.NewTextHandler(lines, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry, lines
}

type lockedLog struct {
	mu    sync.Mutex // guards lines
	lines bytes.Buffer
}

func (l *lockedLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(line)
}

func (l *lockedLog) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.lines.String(), what)
}

// TestWhoLeavesDuringAnOutageDoesNotSayThatItEnded closes the last registration while
// etcd is away.
func TestWhoLeavesDuringAnOutageDoesNotSayThatItEnded(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	c.Member(0).Cut()
	registry, lines := openLogged(t, c)
	registration, err := registry.Register(discoverytest.Instance("auth", "10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "told", func() bool { return registration.Status().Err != nil })
	discoverytest.Close(t, registration)
	if lines.count("cannot write to etcd") != 1 || lines.count("works again") != 0 {
		t.Errorf("the log is\n%s", lines.lines.String())
	}
}

// TestAnOutageThatEndedWhileAnotherAPIWasWatchedIsForgotten has a stall, too short for
// the watch to end, meet an API that nobody asks for any more.
func TestAnOutageThatEndedWhileAnotherAPIWasWatchedIsForgotten(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	registry := openOn(t, c, 0)
	discoverytest.Register(t, openOn(t, c, 0), discoverytest.Instance("auth", "10.0.0.1:1"), discoverytest.Instance("billing", "10.0.0.1:1"))
	discoverytest.Watch(t, registry, "auth").UntilAddresses(t, "10.0.0.1:1")
	c.Member(0).Slow(1500 * time.Millisecond)
	watched := discoverytest.Watch(t, registry, "other")
	watched.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
	watched.Stop()
	within(t, time.Second, "forgotten", func() bool { return registry.Stats().ReadError == nil })
	c.Member(0).Slow(0)
	billing := discoverytest.Watch(t, registry, "billing")
	billing.UntilAddresses(t, "10.0.0.1:1")
	if first := billing.Snapshots()[0]; first.Unreachable != nil {
		t.Errorf("told first of %+v", first)
	}
}

// TestAnOutageThatEndedUnwatchedIsForgotten has nobody ask when etcd comes back.
func TestAnOutageThatEndedUnwatchedIsForgotten(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	registry := openOn(t, c, 0)
	discoverytest.Register(t, openOn(t, c, 0), discoverytest.Instance("auth", "10.0.0.1:1"))
	c.Member(0).Cut()
	watched := discoverytest.Watch(t, registry, "auth")
	watched.Until(t, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
	watched.Stop()
	c.Member(0).Heal()
	within(t, 10*time.Second, "forgotten", func() bool { return registry.Stats().ReadError == nil })
	discoverytest.Watch(t, registry, "auth").UntilAddresses(t, "10.0.0.1:1")
}

// TestThousandsOfAPIsAreWatchedAtOnce asks for more than fits into what a stream
// holds in either direction.
func TestThousandsOfAPIsAreWatchedAtOnce(t *testing.T) {
	t.Parallel()
	const apis = 8000
	namespace := newNamespace()
	direct := client(t, shared)
	for i := 0; i < apis; i += 100 {
		var marks []clientv3.Op
		for j := range 100 {
			marks = append(marks, clientv3.OpPut(fmt.Sprintf("%s/known/api%d", namespace, i+j), "{}"))
		}
		if _, err := direct.Txn(t.Context()).Then(marks...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	registry := open(t, shared, namespace)
	var told sync.WaitGroup
	for i := range apis {
		told.Add(1)
		registry.Watch(fmt.Sprintf("api%d", i), func() func(discovery.Snapshot) {
			once := sync.OnceFunc(told.Done)
			return func(discovery.Snapshot) { once() }
		}())
	}
	all := make(chan struct{})
	go func() {
		told.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-time.After(60 * time.Second):
		t.Fatal("after a minute some have heard nothing")
	}
}
