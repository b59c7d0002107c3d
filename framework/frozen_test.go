//go:build unix

package framework_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestAFrozenInstanceIsSpared freezes one of two instances for longer than its
// lease, under calls that two buses make at the same time. It measures, so no other
// test of the package runs beside it, and of three rounds the quietest counts: what
// else the machine does keeps calls under way at the other instance too, and the
// frozen one gets as many.
func TestAFrozenInstanceIsSpared(t *testing.T) {
	server := startEtcd(t, embed.Config{})
	registry := openEtcd(t, server.Endpoints()...)
	watched := discoverytest.Watch(t, registry, "test.echo")
	instances := func(want int) []discovery.Instance {
		return watched.Until(t, fmt.Sprintf("%d instances", want), func(s discovery.Snapshot) bool { return len(s.Instances) == want }).Instances
	}
	frozen := startAlone(t, server.Endpoints()[0], "")
	first := instances(1)[0]
	startAlone(t, server.Endpoints()[0], "")
	both := instances(2)
	roundRobin, leastRequest := newBus(t, registry, framework.LoadBalancing("round_robin", "")), newBus(t, registry)
	for _, bus := range []*framework.Bus{roundRobin, leastRequest} {
		ready(t, bus, "test.echo")
		reachBoth(t, bus)
	}
	for round := 1; ; round++ {
		if err := frozen.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		lost := callForAWhile(t, roundRobin, leastRequest)
		alone := instances(1)[0] // its lease ended
		if alone.Address == first.Address {
			t.Errorf("left is %s, the frozen one", alone.Address)
		}
		if err := frozen.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		back := instances(2)
		for i := range both {
			if back[i].Address != both[i].Address || back[i].Incarnation != both[i].Incarnation {
				t.Errorf("back is %+v, before it was %+v", back[i], both[i])
			}
		}
		for _, bus := range []*framework.Bus{roundRobin, leastRequest} {
			reachBoth(t, bus)
		}
		t.Logf("of 200 calls a second round robin lost %d, least request %d", lost[0], lost[1])
		if lost[0] >= 50 && lost[1] <= lost[0]/10 {
			return
		}
		if round == 3 {
			t.Fatalf("least request lost %d calls, round robin %d: want at most a tenth, of at least 50", lost[1], lost[0])
		}
	}
}

// callForAWhile makes 200 calls a second on each bus for 4 s, of 300 ms, and gives how
// many of each failed.
func callForAWhile(t *testing.T, buses ...*framework.Bus) []int64 {
	t.Helper()
	lost := make([]atomic.Int64, len(buses))
	var calls sync.WaitGroup
	tick := time.NewTicker(time.Second / 200)
	defer tick.Stop()
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); <-tick.C {
		for i, bus := range buses {
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				if _, err := testv1.NewEchoServiceClient(bus).Echo(ctx, &testv1.EchoRequest{}); err != nil {
					lost[i].Add(1)
				}
			})
		}
	}
	calls.Wait()
	out := make([]int64, len(buses))
	for i := range lost {
		out[i] = lost[i].Load()
	}
	return out
}

// reachBoth calls until two instances have answered.
func reachBoth(t *testing.T, bus *framework.Bus) {
	t.Helper()
	answered := make(map[string]bool)
	for end := time.Now().Add(20 * time.Second); len(answered) < 2; {
		if time.Now().After(end) {
			t.Fatalf("after 20 s only %v answered", answered)
		}
		var who peer.Peer
		if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}, grpc.Peer(&who)); err == nil {
			answered[who.Addr.String()] = true
		}
	}
}
