// Package memory is a registry in this process, for tests and for programs
// that serve and call their own APIs.
package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/instanceset"
	"github.com/onecall-dev/onecall/internal/notify"
)

// Registry is a [discovery.Registry] in a map. The zero value is ready to use;
// it needs no closing. It is never unreachable.
type Registry struct {
	// mu guards all fields. It is held while snapshots are queued for the observers, so
	// that all receive them in one order, and not while they are notified.
	mu      sync.Mutex
	apis    map[string]*api // that were ever served
	created int64           // counts the instances that were registered
	// observers has the API that each of them watches.
	observers map[*observer]string
}

// api is what the registry has of an API.
type api struct {
	instances instanceset.Set
	seen      time.Time // when an instance registered, drained or was removed last
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
	reg := &registration{registry: r, entries: make(map[string][]instanceset.Entry), changed: make(chan struct{})}
	reg.status = discovery.Status{Registered: true, Since: time.Now(), Changed: reg.changed}
	r.update(func() bool {
		for _, instance := range instances {
			instance.State = cmp.Or(instance.State, discovery.Serving)
			r.created++
			reg.entries[instance.API] = append(reg.entries[instance.API],
				instanceset.Entry{Key: strconv.FormatInt(r.created, 10), Instance: &instance, Created: r.created})
		}
		reg.put()
		return true
	}, reg.entries)
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
	if known := r.apis[instance.API]; known != nil {
		for _, entry := range known.instances.Entries() {
			if entry.Instance.Incarnation == instance.Incarnation && entry.Instance.Address == instance.Address {
				return entry.Instance.Descriptors, nil
			}
		}
	}
	return "", nil
}

// update calls change, and then notifies the observers of a registration's APIs if
// there was a change.
func (r *Registry) update(change func() bool, apis map[string][]instanceset.Entry) {
	r.mu.Lock()
	if !change() {
		r.mu.Unlock()
		return
	}
	var concerned []*observer
	for watching, name := range r.observers {
		if _, ok := apis[name]; ok {
			watching.Add(r.snapshot(name))
			concerned = append(concerned, watching)
		}
	}
	r.mu.Unlock()
	for _, watching := range concerned {
		watching.Run()
	}
}

// snapshot returns what is known of an API. r.mu must be held.
func (r *Registry) snapshot(name string) discovery.Snapshot {
	snapshot := discovery.Snapshot{API: name}
	known := r.apis[name]
	if known == nil {
		snapshot.KnownAPIs = slices.Sorted(maps.Keys(r.apis))
		return snapshot
	}
	snapshot.Known = true
	list := known.instances.List()
	snapshot.Instances = make([]discovery.Instance, 0, len(list))
	for _, instance := range list {
		public := *instance
		public.Descriptors = ""
		snapshot.Instances = append(snapshot.Instances, public)
	}
	if len(snapshot.Instances) == 0 {
		snapshot.LastSeen = known.seen
	}
	return snapshot
}

// registration is the instances of one call of Register.
type registration struct {
	registry *Registry

	// The registry's lock guards the fields below.
	entries map[string][]instanceset.Entry // by API
	status  discovery.Status
	changed chan struct{} // the status's Changed
}

// put puts the entries into the registry. The registry's lock must be held.
func (r *registration) put() {
	for name, entries := range r.entries {
		known := r.registry.apis[name]
		if known == nil {
			known = new(api)
			if r.registry.apis == nil {
				r.registry.apis = make(map[string]*api)
			}
			r.registry.apis[name] = known
		}
		known.seen = time.Now()
		for _, entry := range entries {
			known.instances.Put(entry)
		}
	}
}

// Status implements [discovery.Registration].
func (r *registration) Status() discovery.Status {
	r.registry.mu.Lock()
	defer r.registry.mu.Unlock()
	return r.status
}

// Drain implements [discovery.Registration].
func (r *registration) Drain(context.Context) error {
	r.registry.update(func() bool {
		if !r.status.Registered {
			return false
		}
		for _, entries := range r.entries {
			for i := range entries {
				draining := *entries[i].Instance
				draining.State = discovery.Draining
				entries[i].Instance = &draining
			}
		}
		r.put()
		return true
	}, r.entries)
	return nil
}

// Close implements [discovery.Registration].
func (r *registration) Close(context.Context) error {
	r.registry.update(func() bool {
		if !r.status.Registered {
			return false
		}
		for name, entries := range r.entries {
			known := r.registry.apis[name]
			known.seen = time.Now()
			for _, entry := range entries {
				known.instances.Remove(entry.Key)
			}
		}
		r.status = discovery.Status{Since: time.Now(), Changed: make(chan struct{})} // the last change
		close(r.changed)
		return true
	}, r.entries)
	return nil
}
