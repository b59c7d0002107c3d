package resolver_test

import (
	"log/slog"
	"net/url"
	"runtime"
	"strconv"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
	onecall "github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/internal/instanceset"
)

// source notifies one observer of views, and counts the updates of grpc-go.
type source struct {
	onecall.Source
	resolver.ClientConn

	notify  func(*instanceset.View)
	updates int
}

func (s *source) WatchViews(_ string, observer func(*instanceset.View)) func() {
	s.notify = observer
	return func() {}
}

func (s *source) UpdateState(resolver.State) error {
	s.updates++
	return nil
}

// viewing builds a resolver, and returns its source.
func viewing(tb testing.TB) *source {
	tb.Helper()
	target, err := url.Parse(onecall.Target("bench"))
	if err != nil {
		tb.Fatal(err)
	}
	s := new(source)
	built, err := onecall.NewBuilder(s, onecall.Config{Logger: slog.New(slog.DiscardHandler)}).Build(resolver.Target{URL: *target}, s, resolver.BuildOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(built.Close)
	return s
}

// changing returns a function that changes one of so many instances, as etcd's registry
// does, from its value to the endpoints.
func changing(tb testing.TB, size int) func() {
	tb.Helper()
	s := viewing(tb)
	var set instanceset.Set
	all := fleet(size)
	change := func(i int) {
		instance := all[i%size]
		instance.Version = strconv.Itoa(i)
		set.Put(instanceset.Entry{Key: instance.Address, Instance: &instance})
	}
	for i := range size {
		change(i)
	}
	i := size
	return func() {
		change(i)
		i++
		s.notify(&instanceset.View{List: set.List(), Rest: discovery.Snapshot{API: "bench", Known: true}})
	}
}

// BenchmarkAChange is a change of one instance.
func BenchmarkAChange(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			change := changing(b, size)
			change()
			b.ReportAllocs()
			for b.Loop() {
				change()
			}
		})
	}
}

func TestAnInstanceThatIsPutAgainIsNoChange(t *testing.T) {
	t.Parallel()
	s := viewing(t)
	var set instanceset.Set
	instance := fleet(1)[0]
	for range 3 {
		again := instance
		set.Put(instanceset.Entry{Key: "key", Instance: &again})
		s.notify(&instanceset.View{List: set.List(), Rest: discovery.Snapshot{API: "bench", Known: true}})
	}
	if s.updates != 1 {
		t.Errorf("grpc-go was updated %d times, want once", s.updates)
	}
}

// TestAChangeCopiesNoInstances counts bytes, because garbage is what makes a caller of
// many instances learn late of a change.
func TestAChangeCopiesNoInstances(t *testing.T) {
	// Not parallel: it counts what the process allocates.
	const size, most = 1000, 64 // bytes an instance: the endpoint has 32, and there are two lists of pointers
	change := changing(t, size)
	change()
	const changes = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range changes {
		change()
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / changes / size; got > most {
		t.Errorf("a change allocates %d bytes for each instance, want %d at most", got, most)
	}
}
