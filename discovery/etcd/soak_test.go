package etcd_test

import (
	"runtime"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
)

// flapping is a registry whose connection to etcd is cut again and again, at any
// moment of what registrar and watcher do.
type flapping struct {
	cluster *cluster.Cluster
	direct  *clientv3.Client
	watched *discoverytest.Watched
}

func newFlapping(tb testing.TB, registry func(*cluster.Cluster) *etcd.Registry) *flapping {
	tb.Helper()
	c := cluster.Start(tb, 1)
	f := &flapping{cluster: c, direct: c.Direct()}
	opened := registry(c)
	discoverytest.Register(tb, opened, discoverytest.Instance("auth", "10.0.0.1:1"), discoverytest.Instance("billing", "10.0.0.1:1"))
	f.watched = discoverytest.Watch(tb, opened, "auth")
	return f
}

// flap cuts the connection and heals it. What lies between is no wait for anything:
// it makes the moments differ.
func (f *flapping) flap(times int) {
	for i := range times {
		f.cluster.Member(0).Cut()
		if i%100 == 99 {
			time.Sleep(50 * time.Millisecond)
		}
		f.cluster.Member(0).Heal()
		time.Sleep(time.Duration(i%20) * time.Millisecond)
	}
}

// settle waits until all is as it was before.
func (f *flapping) settle(tb testing.TB) {
	tb.Helper()
	for _, api := range []string{"auth", "billing"} {
		eventually.True(tb, "one live key", oneLiveKey(tb, f.direct, api))
	}
	f.watched.Until(tb, "a reachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable == nil && len(s.Instances) == 1 })
}

// oneLease waits until etcd has one lease: those that were granted in vain end.
func (f *flapping) oneLease(tb testing.TB) {
	tb.Helper()
	eventually.True(tb, "one lease", func() bool {
		leases, err := f.direct.Leases(tb.Context())
		return err == nil && len(leases.Leases) == 1
	})
}

func TestFlapsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	f := newFlapping(t, func(c *cluster.Cluster) *etcd.Registry { return openOn(t, c, 2*time.Second) })
	f.flap(100)
	f.settle(t)
	f.oneLease(t)
}

// BenchmarkSoakFlaps counts goroutines and memory after a thousand flaps.
func BenchmarkSoakFlaps(b *testing.B) {
	for b.Loop() {
		f := newFlapping(b, func(c *cluster.Cluster) *etcd.Registry { return openOn(b, c, 2*time.Second) })
		heap := func() float64 {
			runtime.GC()
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			return float64(memory.HeapAlloc) / (1 << 20)
		}
		f.flap(100)
		f.settle(b)
		goroutines, before := cluster.Goroutines(), heap()
		f.flap(900)
		eventually.True(b, "as many goroutines as before", func() bool {
			f.settle(b)
			return cluster.Goroutines() <= goroutines+45 // less than a leak in one flap of twenty; with the streams that are open they vary by 16
		})
		f.oneLease(b)
		b.ReportMetric(float64(cluster.Goroutines()-goroutines), "goroutines-more")
		b.ReportMetric(heap()-before, "MB-more")
	}
}

// BenchmarkSoakUnreachable measures how soon callers learn that etcd is away, and how
// long a registry takes to close then.
func BenchmarkSoakUnreachable(b *testing.B) {
	for _, fault := range []struct {
		name  string
		begin func(*cluster.Member)
	}{{"down", (*cluster.Member).Cut}, {"silent", (*cluster.Member).Silence}} {
		b.Run(fault.name, func(b *testing.B) {
			c := cluster.Start(b, 1)
			fault.begin(c.Member(0))
			var told, closed time.Duration
			for b.Loop() {
				began := time.Now()
				registry := openOn(b, c, 0)
				discoverytest.Watch(b, registry, "auth").Until(b, "an unreachable etcd", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
				told = max(told, time.Since(began))
				began = time.Now()
				_ = registry.Close()
				closed = max(closed, time.Since(began))
			}
			b.ReportMetric(told.Seconds(), "s-until-told")
			b.ReportMetric(closed.Seconds(), "s-to-close")
		})
	}
}
