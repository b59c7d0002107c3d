// Package memory is a registry in this process, for tests and for programs
// that serve and call their own APIs.
package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/notify"
)

// Registry is a [discovery.Registry] in a map. The zero value is ready to use;
// it needs no closing. It is never unreachable.
type Registry struct {
	// mu guards all fields. It is held while observers are given what to be notified
	// of, so that all are notified in one order, and not while they are.
	mu   sync.Mutex
	apis map[string][]entry // oldest first
	// seen holds, of each API that was ever served, when an instance was taken
	// out last.
	seen      map[string]time.Time
	observers map[*observer]string // by what API each watches
}

type entry struct {
	owner    *registration
	instance discovery.Instance
}

type observer = notify.Observer[discovery.Snapshot]

var _ discovery.Registry = (*Registry)(nil)

// New returns an empty registry.
func New() *Registry { return &Registry{} }

// Register implements [discovery.Registry].
func (r *Registry) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	for _, instance := range instances {
		if err := instance.Validate(); err != nil {
			return nil, err
		}
	}
	reg := &registration{registry: r, changed: make(chan struct{})}
	reg.status = discovery.Status{Registered: true, Since: time.Now(), Changed: reg.changed}
	r.update(func() (changed map[string]bool) {
		if r.apis == nil {
			r.apis = make(map[string][]entry)
			r.seen = make(map[string]time.Time)
		}
		changed = make(map[string]bool)
		for _, instance := range instances {
			instance.State = cmp.Or(instance.State, discovery.Serving)
			r.seen[instance.API] = time.Now()
			r.apis[instance.API] = append(r.apis[instance.API], entry{owner: reg, instance: instance})
			changed[instance.API] = true
		}
		return changed
	})
	return reg, nil
}

// Watch implements [discovery.Registry].
func (r *Registry) Watch(api string, notified func(discovery.Snapshot)) func() {
	watching := notify.NewObserver(notified)
	r.mu.Lock()
	if r.observers == nil {
		r.observers = make(map[*observer]string)
	}
	r.observers[watching] = api
	watching.Add(r.snapshot(api))
	r.mu.Unlock()
	watching.Run()
	return func() {
		r.mu.Lock()
		delete(r.observers, watching)
		r.mu.Unlock()
		watching.Stop()
	}
}

// Descriptors implements [discovery.Registry].
func (r *Registry) Descriptors(_ context.Context, instance discovery.Instance) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.apis[instance.API] {
		if e.instance.Incarnation == instance.Incarnation && e.instance.Address == instance.Address {
			return e.instance.Descriptors, nil
		}
	}
	return "", nil
}

// update changes what is registered, and then notifies the observers of the APIs
// that changed.
func (r *Registry) update(change func() (changed map[string]bool)) {
	r.mu.Lock()
	changed := change()
	var concerned []*observer
	for watching, api := range r.observers {
		if changed[api] {
			watching.Add(r.snapshot(api))
			concerned = append(concerned, watching)
		}
	}
	r.mu.Unlock()
	for _, watching := range concerned {
		watching.Run()
	}
}

func (r *Registry) snapshot(api string) discovery.Snapshot {
	newest := make(map[string]discovery.Instance)
	for _, e := range r.apis[api] {
		instance := e.instance
		instance.Descriptors = ""
		newest[instance.Address] = instance
	}
	seen, known := r.seen[api]
	snapshot := discovery.Snapshot{
		API: api,
		Instances: slices.SortedFunc(maps.Values(newest), func(a, b discovery.Instance) int {
			return cmp.Compare(a.Address, b.Address)
		}),
		Known: known,
	}
	if !known {
		snapshot.KnownAPIs = slices.Sorted(maps.Keys(r.seen))
	}
	if len(newest) == 0 {
		snapshot.LastSeen = seen
	}
	return snapshot
}

// change applies edit to each entry of an owner, and notifies the observers
// concerned.
func (r *Registry) change(owner *registration, edit func(*discovery.Instance) (keep bool)) {
	r.update(func() (changed map[string]bool) {
		changed = make(map[string]bool)
		for api, entries := range r.apis {
			kept := make([]entry, 0, len(entries))
			for _, e := range entries {
				keep := true
				if e.owner == owner {
					changed[api] = true
					r.seen[api] = time.Now()
					keep = edit(&e.instance)
				}
				if keep {
					kept = append(kept, e)
				}
			}
			r.apis[api] = kept
		}
		return changed
	})
}

type registration struct {
	registry *Registry

	// status is guarded by the registry's lock; changed is its Changed.
	status  discovery.Status
	changed chan struct{}
}

// Status implements [discovery.Registration].
func (r *registration) Status() discovery.Status {
	r.registry.mu.Lock()
	defer r.registry.mu.Unlock()
	return r.status
}

// Drain implements [discovery.Registration].
func (r *registration) Drain(context.Context) error {
	r.registry.change(r, func(instance *discovery.Instance) bool {
		instance.State = discovery.Draining
		return true
	})
	return nil
}

// Close implements [discovery.Registration].
func (r *registration) Close(context.Context) error {
	r.registry.change(r, func(*discovery.Instance) bool { return false })
	r.registry.mu.Lock()
	defer r.registry.mu.Unlock()
	if r.status.Registered {
		r.status = discovery.Status{Since: time.Now(), Changed: make(chan struct{})} // the last change
		close(r.changed)
	}
	return nil
}
