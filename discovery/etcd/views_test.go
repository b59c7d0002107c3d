package etcd_test

import (
	"testing"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/internal/instanceset"
)

// TestAnEventChangesTheInstancesThatItIsAbout checks that a view shares the instances that
// an event is not about with the view before it.
func TestAnEventChangesTheInstancesThatItIsAbout(t *testing.T) {
	t.Parallel()
	registry := open(t, shared, newNamespace())
	views := make(chan *instanceset.View, 64)
	stop := registry.WatchViews("user", func(view *instanceset.View) { views <- view })
	defer stop()
	snapshots := discoverytest.Watch(t, registry, "user")

	await := func(size int, state discovery.State) *instanceset.View {
		t.Helper()
		for {
			if view := <-views; len(view.List) == size && view.List[0].State == state {
				return view
			}
		}
	}
	instance := func(address string) discovery.Instance {
		return discovery.Instance{API: "user", Address: address, Incarnation: discovery.NewIncarnation()}
	}
	first, err := registry.Register(instance("10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close(t.Context()) }()
	await(1, discovery.Serving)
	second, err := registry.Register(instance("10.0.0.2:1"), instance("10.0.0.3:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close(t.Context()) }()
	before := await(3, discovery.Serving)
	if err := first.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := await(3, discovery.Draining)
	if before.List[1] != after.List[1] || before.List[2] != after.List[2] {
		t.Error("an instance that did not change was copied")
	}
	if before.List[0] == after.List[0] || before.List[0].State != discovery.Serving {
		t.Error("an instance was changed in a view that was passed on")
	}
	snapshots.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")
}
