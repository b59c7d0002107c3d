package instanceset

import (
	"sync"

	"github.com/onecall-dev/onecall/discovery"
)

// View is a [discovery.Snapshot] that copies its instances only if they are asked for: a
// copy of a thousand instances has 216 KB, and one for each change would keep the garbage
// collector busy. Its fields must not be changed. Its methods are safe for all goroutines.
type View struct {
	// List are the instances as [Set.List] returns them.
	List []*discovery.Instance
	// Rest is the snapshot without its instances.
	Rest discovery.Snapshot

	copied    sync.Once
	instances []discovery.Instance
}

// Snapshot returns the snapshot. The first call copies all instances.
func (v *View) Snapshot() discovery.Snapshot {
	v.copied.Do(func() {
		v.instances = make([]discovery.Instance, len(v.List))
		for i, instance := range v.List {
			v.instances[i] = *instance
		}
	})
	snapshot := v.Rest
	snapshot.Instances = v.instances
	return snapshot
}

// Source provides snapshots, as a [discovery.Registry] does. If it has a method WatchViews
// too, that provides the same as views.
type Source interface {
	Watch(api string, observer func(discovery.Snapshot)) (stop func())
}

// Watch calls observer as [discovery.Registry.Watch] does, with views. If source has no
// views, Watch makes them.
func Watch(source Source, api string, observer func(*View)) (stop func()) {
	if viewer, ok := source.(interface {
		WatchViews(api string, observer func(*View)) (stop func())
	}); ok {
		return viewer.WatchViews(api, observer)
	}
	var list []*discovery.Instance // the source calls one at a time
	return source.Watch(api, func(snapshot discovery.Snapshot) {
		list = listOf(snapshot.Instances, list)
		snapshot.Instances = nil
		observer(&View{List: list, Rest: snapshot})
	})
}

// listOf returns instances as pointers. An instance that did not change is the same pointer
// as before. Others are copied, so that the snapshot that they come from can be freed. Both
// lists are sorted by address.
func listOf(instances []discovery.Instance, before []*discovery.Instance) []*discovery.Instance {
	list := make([]*discovery.Instance, len(instances))
	for i := range instances {
		instance := &instances[i]
		for len(before) > 0 && before[0].Address < instance.Address {
			before = before[1:]
		}
		if len(before) > 0 && *before[0] == *instance {
			list[i] = before[0]
			continue
		}
		own := *instance
		list[i] = &own
	}
	return list
}
