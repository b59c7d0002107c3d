package etcd_test

import (
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
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
	"github.com/onecall-dev/onecall/internal/testlog"
)

// TestAPutWhoseAnswerIsLostIsRemovedAllTheSame has etcd accept a put and not
// answer, and closes the registration meanwhile.
func TestAPutWhoseAnswerIsLostIsRemovedAllTheSame(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry := openOn(t, c, long)
	first := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1")) // which keeps the lease
	c.Member(0).Silence()
	second, err := registry.Register(discoverytest.Instance("billing", "10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "put", func() bool { keys, _ := live(t, direct, "billing"); return keys == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := second.Close(ctx); err == nil {
		t.Error("Close on a silent etcd is no error")
	}
	untilError(t, first, "") // the attempt to put it is given up
	c.Member(0).Speak()
	discoverytest.Close(t, second)
	if keys, _ := live(t, direct, "billing"); keys != 0 {
		t.Errorf("after Close there are %d keys", keys)
	}
	eventually.True(t, "one live key", oneLiveKey(t, direct, "auth"))
}

// TestNothingOutlivesTheLastCloseDuringARenewal closes the only registration while the
// answer to a renewal is on its way. When Close returns, the lease must have ended, so that
// etcd refuses a put that a slow member executes later.
func TestNothingOutlivesTheLastCloseDuringARenewal(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry := openOn(t, c, 6*time.Second)
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	lease := leaseOf(t, direct, "onecall", "auth")
	remaining := func() int64 {
		reply, err := direct.TimeToLive(t.Context(), lease)
		if err != nil {
			t.Fatal(err)
		}
		return reply.TTL
	}
	c.Member(0).Slow(200 * time.Millisecond)
	before := remaining()
	eventually.True(t, "renewed", func() bool {
		now := remaining()
		defer func() { before = now }()
		return now > before
	})
	discoverytest.Close(t, registration)
	if left := remaining(); left >= 0 {
		t.Errorf("after the last Close the lease lasts %d s more", left)
	}
}

func TestALeaseThatEndedUnheardIsNoRegistration(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry := openOn(t, c, long)
	instance := discoverytest.Instance("auth", "10.0.0.1:1")
	first := discoverytest.Register(t, registry, instance)
	c.Member(0).Silence()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := first.Close(ctx); err == nil {
		t.Error("Close on a silent etcd is no error")
	}
	eventually.True(t, "revoked", func() bool { keys, _ := live(t, direct, "auth"); return keys == 0 })
	again, err := registry.Register(instance)
	if err != nil {
		t.Fatal(err)
	}
	c.Member(0).Speak()
	discoverytest.AwaitRegistered(t, again)
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
	lines := new(testlog.Log)
	registry, err := etcd.Open(etcd.Config{
		Endpoints: shared.Endpoints(), Namespace: namespace, TTL: long,
		Logger: slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	watching := func(api string) {
		t.Helper()
		eventually.True(t, "the registrar watches "+api, func() bool {
			return lines.Count(`msg="watching a key of the lease" key=`+namespace+"/apis/"+api+"/") > 0
		})
	}
	first := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	watching("auth")
	discoverytest.Register(t, registry, discoverytest.Instance("billing", "10.0.0.2:1"))
	discoverytest.Close(t, first)
	watching("billing")
	before := leaseOf(t, direct, namespace, "billing")
	if _, err := direct.Revoke(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "back", func() bool {
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
	eventually.True(t, "two keys", func() bool { keys, _ := live(t, root, "auth"); return keys == 2 })
	untilError(t, foreign, "permission denied")
	if foreign.Status().Registered {
		t.Error("what is denied says that it is registered")
	}
	if both.Status().Registered {
		t.Error("a registration of which a half is denied says that it is registered")
	}
	ctx := eventually.Context(t)
	if err := allowed.Drain(ctx); err != nil {
		t.Error(err)
	}
	if err := foreign.Drain(ctx); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Drain of what is denied = %v", err)
	}
	discoverytest.Close(t, allowed)
	for _, registration := range []discovery.Registration{both, foreign} {
		// A put that got no answer may have been taken, and its removal is denied too.
		if err := registration.Close(ctx); err != nil && !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("Close of what is denied = %v", err)
		}
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
	eventually.True(t, "a status that reports it", func() bool { return !lost.Status().Registered })
	if status := kept.Status(); !status.Registered {
		t.Errorf("the status of what is allowed is %+v", status)
	}
	discoverytest.Register(t, registry, discoverytest.Instance("users", "10.0.0.1:1"))
	ctx := eventually.Context(t)
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
	ctx := eventually.Context(t)
	if err := lost.Close(ctx); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Close of what may not be removed = %v", err)
	}
	discoverytest.Register(t, registry, discoverytest.Instance("users", "10.0.0.1:1"))
	eventually.True(t, "gone with the lease", func() bool { keys, _ := live(t, root, "auth"); return keys == 0 })
	if !oneLiveKey(t, root, "billing")() {
		t.Error("what is allowed went along")
	}
}

// TestADeletedKeyIsNotReportedAsRegistered has a key deleted that etcd has no space to take
// again.
func TestADeletedKeyIsNotReportedAsRegistered(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	direct := c.Direct()
	registry, lines := openLogged(t, c)
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	alarm(t, direct, pb.AlarmRequest_ACTIVATE)
	if _, err := direct.Delete(t.Context(), "onecall/apis/auth/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "a status that reports it", func() bool { return !registration.Status().Registered && registry.Stats().Registered == 0 })
	eventually.True(t, "refused", func() bool {
		err := registration.Status().Err
		return err != nil && strings.Contains(err.Error(), "database space exceeded")
	})
	if status := registration.Status(); status.Registered {
		t.Errorf("the key is deleted, and the status is %+v", status)
	}
	alarm(t, direct, pb.AlarmRequest_DEACTIVATE)
	eventually.True(t, "registered", func() bool { return registration.Status().Registered })
	wantTurns(t, lines, "registered in etcd", "no longer registered", "registered in etcd")
}

// TestAKeyThatIsPutTooLateIsRemoved has a put arrive after the removal of its key, as
// of a member that was frozen meanwhile.
func TestAKeyThatIsPutTooLateIsRemoved(t *testing.T) {
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
		t.Fatal("the late put is not there")
	}
	eventually.True(t, "removed", func() bool { return len(entries(t, direct, namespace, "billing")) == 0 })
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
	// By the end of the lease there were several attempts to keep it.
	untilStatus(t, registration, "not registered, and why", func(s discovery.Status) bool { return !s.Registered && s.Err != nil })
	c.Member(0).Heal()
	untilRegistered(t, registration)
	wantTurns(t, lines, "cannot write to etcd", "writing to etcd works again", "writing to etcd works again")
	wantTurns(t, lines, "registered in etcd", "no longer registered", "registered in etcd")
}

// openLogged opens a registry whose log is kept, for the length of the test.
func openLogged(t *testing.T, c *cluster.Cluster) (*etcd.Registry, *testlog.Log) {
	t.Helper()
	lines := new(testlog.Log)
	registry, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), TTL: 3 * time.Second, Logger: lines.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry, lines
}

// wantTurns wants lines with these messages by turns: first is the first of them and
// last the last one, which is one of the two. So each change is one line, even on a
// machine so busy that etcd does not always answer in time.
func wantTurns(t *testing.T, log *testlog.Log, first, second, last string) {
	t.Helper()
	// A line is logged after the status has changed.
	eventually.True(t, fmt.Sprintf("a last line that says %q", last), func() bool {
		previous, lines := turns(t, log, first, second)
		return lines >= 2 && previous == last
	})
}

// turns returns which of two messages the last of their lines has, and how many lines
// they have. No message may follow itself.
func turns(t *testing.T, log *testlog.Log, first, second string) (previous string, lines int) {
	t.Helper()
	previous = second
	for line := range strings.Lines(log.String()) {
		message := first
		if strings.Contains(line, `msg="`+second) {
			message = second
		} else if !strings.Contains(line, `msg="`+first) {
			continue
		}
		if message == previous {
			t.Fatalf("line %d of those that say %q or %q says the same as the one before, or is not the first: %s", lines+1, first, second, line)
		}
		previous = message
		lines++
	}
	return previous, lines
}

// TestACloseDuringAnOutageDoesNotLogThatItEnded closes the last registration while
// etcd is away.
func TestACloseDuringAnOutageDoesNotLogThatItEnded(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	c.Member(0).Cut()
	registry, lines := openLogged(t, c)
	registration, err := registry.Register(discoverytest.Instance("auth", "10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "a status that reports it", func() bool { return registration.Status().Err != nil })
	lines.Until(t, "cannot write to etcd", 1) // it is logged after the status has changed
	discoverytest.Close(t, registration)
	if lines.Count("cannot write to etcd") != 1 || lines.Count("works again") != 0 {
		t.Errorf("the log is\n%s", lines.String())
	}
}

// TestAnOutageThatEndedWhileAnotherAPIWasWatchedIsForgotten has a stall, too short for
// the watch to end, meet an API that has no observer any more.
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
	eventually.True(t, "forgotten", func() bool { return registry.Stats().ReadError == nil })
	c.Member(0).Slow(0)
	ended := time.Now()
	billing := discoverytest.Watch(t, registry, "billing")
	billing.UntilAddresses(t, "10.0.0.1:1")
	// On a busy machine the listing may take so long that it is an outage of its own.
	if first := billing.Snapshots()[0].Unreachable; first != nil && first.Since.Before(ended) {
		t.Errorf("notified of the outage that ended at %v: %v", ended, first)
	}
}

// TestAnOutageThatEndedUnwatchedIsForgotten has no observer when etcd comes back.
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
	eventually.True(t, "forgotten", func() bool { return registry.Stats().ReadError == nil })
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
	var notified sync.WaitGroup
	for i := range apis {
		notified.Add(1)
		registry.Watch(fmt.Sprintf("api%d", i), func() func(discovery.Snapshot) {
			once := sync.OnceFunc(notified.Done)
			return func(discovery.Snapshot) { once() }
		}())
	}
	all := make(chan struct{})
	go func() {
		notified.Wait()
		close(all)
	}()
	eventually.Receive(t, "a first snapshot of every API", all)
}
