//go:build unix

package framework_test

import (
	"context"
	"fmt"
	"os"
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
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// frozen has two instances, each in a process of its own, and two buses that call them.
// The first instance can be frozen.
type frozen struct {
	process                  *os.Process
	first                    discovery.Instance
	both                     []discovery.Instance
	watched                  *discoverytest.Watched
	roundRobin, leastRequest *framework.Bus
}

func newFrozen(tb testing.TB) *frozen {
	tb.Helper()
	server := startEtcd(tb, embed.Config{})
	registry := openEtcd(tb, server.Endpoints()...)
	f := &frozen{watched: discoverytest.Watch(tb, registry, "test.echo")}
	f.process = startAlone(tb, server.Endpoints()[0], "")
	f.first = f.instances(tb, 1)[0]
	startAlone(tb, server.Endpoints()[0], "")
	f.both = f.instances(tb, 2)
	f.roundRobin, f.leastRequest = newBus(tb, registry, framework.LoadBalancing("round_robin", "")), newBus(tb, registry)
	f.reachBoth(tb)
	return f
}

// instances waits until a number of instances is registered.
func (f *frozen) instances(tb testing.TB, want int) []discovery.Instance {
	tb.Helper()
	return f.watched.Until(tb, fmt.Sprintf("%d instances", want), func(s discovery.Snapshot) bool { return len(s.Instances) == want }).Instances
}

// reachBoth calls on each bus until both instances have answered.
func (f *frozen) reachBoth(tb testing.TB) {
	tb.Helper()
	for _, bus := range []*framework.Bus{f.roundRobin, f.leastRequest} {
		answered := make(map[string]bool)
		eventually.True(tb, "an answer of each instance", func() bool {
			var who peer.Peer
			if _, err := testv1.NewEchoServiceClient(bus).Echo(tb.Context(), &testv1.EchoRequest{}, grpc.Peer(&who)); err == nil {
				answered[who.Addr.String()] = true
			}
			return len(answered) == 2
		})
	}
}

// during freezes the first instance, calls a function, and lets the instance run again
// after its lease has ended.
func (f *frozen) during(tb testing.TB, function func()) {
	tb.Helper()
	if err := f.process.Signal(syscall.SIGSTOP); err != nil {
		tb.Fatal(err)
	}
	function()
	if alone := f.instances(tb, 1)[0]; alone.Address == f.first.Address {
		tb.Errorf("left is %s, the frozen one", alone.Address)
	}
	if err := f.process.Signal(syscall.SIGCONT); err != nil {
		tb.Fatal(err)
	}
	back := f.instances(tb, 2)
	for i := range f.both {
		if back[i].Address != f.both[i].Address || back[i].Incarnation != f.both[i].Incarnation {
			tb.Errorf("back is %+v, before it was %+v", back[i], f.both[i])
		}
	}
	f.reachBoth(tb)
}

// TestAFrozenInstanceIsCalledAgain freezes one of two instances for longer than its
// lease.
func TestAFrozenInstanceIsCalledAgain(t *testing.T) {
	t.Parallel()
	f := newFrozen(t)
	f.during(t, func() {
		for _, bus := range []*framework.Bus{f.roundRobin, f.leastRequest} {
			eventually.True(t, "an answer of the other instance", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := testv1.NewEchoServiceClient(bus).Echo(ctx, &testv1.EchoRequest{})
				return err == nil
			})
		}
	})
}

// BenchmarkSoakFrozenInstance measures how many calls a frozen instance costs, under
// 200 calls a second that two buses make at the same time. On a quiet machine least
// request loses a tenth of the calls that round robin loses. On a busy machine the other
// instance also has calls under way, so the frozen instance gets as many calls.
func BenchmarkSoakFrozenInstance(b *testing.B) {
	for b.Loop() {
		f := newFrozen(b)
		f.during(b, func() {
			lost := callForAWhile(b, f.roundRobin, f.leastRequest)
			b.ReportMetric(float64(lost[0]), "lost-by-round-robin")
			b.ReportMetric(float64(lost[1]), "lost-by-least-request")
		})
	}
}

// callForAWhile makes 200 calls a second on each bus for 4 s, of 300 ms, and returns how
// many of each failed.
func callForAWhile(tb testing.TB, buses ...*framework.Bus) []int64 {
	tb.Helper()
	lost := make([]atomic.Int64, len(buses))
	var calls sync.WaitGroup
	tick := time.NewTicker(time.Second / 200)
	defer tick.Stop()
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); <-tick.C {
		for i, bus := range buses {
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(tb.Context(), 300*time.Millisecond)
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
