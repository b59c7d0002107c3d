package frameworktest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/internal/notify"
)

// Registry is the registry of a kit: one in memory that can be made unreachable. It behaves
// as the registry on etcd does then. Its methods are safe for all goroutines.
type Registry struct {
	store *memory.Registry

	mu            sync.Mutex // guards the fields below
	away          *discovery.UnreachableError
	back          chan struct{} // closed when the registry is reachable again
	watches       map[*watch]struct{}
	registrations map[*registration]struct{}
}

var _ discovery.Registry = (*Registry)(nil)

func newRegistry() *Registry {
	return &Registry{store: memory.New(), watches: make(map[*watch]struct{}), registrations: make(map[*registration]struct{})}
}

// errAway is why the registry cannot be reached.
var errAway = errors.New("the test made it unreachable")

// Away makes the registry unreachable: buses keep the instances that they know, and learn
// of no change. Services go on, and try to register again and again.
func (r *Registry) Away() {
	r.mu.Lock()
	if r.away != nil {
		r.mu.Unlock()
		return
	}
	r.away, r.back = &discovery.UnreachableError{Registry: "the registry of the test", Since: time.Now(), Cause: errAway}, make(chan struct{})
	r.changed()
}

// Back makes the registry reachable again.
func (r *Registry) Back() {
	r.mu.Lock()
	if r.away == nil {
		r.mu.Unlock()
		return
	}
	r.away = nil
	close(r.back)
	var pending []*registration
	for reg := range r.registrations {
		if reg.stored == nil {
			pending = append(pending, reg)
		}
	}
	r.mu.Unlock()
	for _, reg := range pending {
		reg.store()
	}
	r.mu.Lock()
	r.changed()
}

// changed notifies all watches and registrations that the registry is away or back. r.mu is
// held, and released.
func (r *Registry) changed() {
	var concerned []*watch
	for w := range r.watches {
		if w.queue(r.away) {
			concerned = append(concerned, w)
		}
	}
	for reg := range r.registrations {
		reg.notify()
	}
	r.mu.Unlock()
	for _, w := range concerned {
		w.observer.Run()
	}
}

// watch is one watch of an API.
type watch struct {
	observer *notify.Observer[discovery.Snapshot]
	// The registry's lock guards the fields below. latest is what the store has, shown
	// what the observer was notified of last.
	latest, shown discovery.Snapshot
	known         bool
}

// queue queues what the observer must be notified of, and reports whether there is
// something.
func (w *watch) queue(away *discovery.UnreachableError) bool {
	switch {
	case away != nil:
		w.shown.Unreachable = away
	case w.known:
		w.shown = w.latest
	default:
		return false
	}
	w.observer.Add(w.shown)
	return true
}

// Watch implements [discovery.Registry].
func (r *Registry) Watch(api string, notified func(discovery.Snapshot)) func() {
	w := &watch{observer: notify.NewObserver(notified), shown: discovery.Snapshot{API: api}}
	r.mu.Lock()
	r.watches[w] = struct{}{}
	if r.away != nil {
		w.queue(r.away)
	}
	r.mu.Unlock()
	w.observer.Run()
	stop := r.store.Watch(api, func(latest discovery.Snapshot) {
		r.mu.Lock()
		w.latest, w.known = latest, true
		if r.away == nil {
			w.queue(nil)
		}
		r.mu.Unlock()
		w.observer.Run()
	})
	return func() {
		r.mu.Lock()
		delete(r.watches, w)
		r.mu.Unlock()
		stop()
		w.observer.Stop()
	}
}

// Descriptors implements [discovery.Registry].
func (r *Registry) Descriptors(ctx context.Context, instance discovery.Instance) (string, error) {
	if err := r.await(ctx); err != nil {
		return "", err
	}
	return r.store.Descriptors(ctx, instance)
}

// await waits until the registry is reachable. If ctx ends first, it returns why it is not.
func (r *Registry) await(ctx context.Context) error {
	r.mu.Lock()
	away, back := r.away, r.back
	r.mu.Unlock()
	if away == nil {
		return nil
	}
	select {
	case <-back:
		return nil
	case <-ctx.Done():
		return away
	}
}

// Register implements [discovery.Registry].
func (r *Registry) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	for _, instance := range instances {
		if err := instance.Validate(); err != nil {
			return nil, err
		}
	}
	reg := &registration{registry: r, instances: instances, change: make(chan struct{}), since: time.Now()}
	r.mu.Lock()
	r.registrations[reg] = struct{}{}
	r.mu.Unlock()
	if r.isReachable() {
		reg.store()
	}
	return reg, nil
}

func (r *Registry) isReachable() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away == nil
}

// expire removes what was registered, also while the registry is unreachable.
func (r *Registry) expire(made discovery.Registration) {
	if reg, ok := made.(*registration); ok {
		_ = reg.remove(context.Background()) // the store has no error
	}
}

// registration is what one call of Register registered.
type registration struct {
	registry  *Registry
	instances []discovery.Instance

	// The registry's lock guards the fields below.
	stored discovery.Registration // nil until the registry was reachable
	ended  bool
	since  time.Time
	change chan struct{}
}

// store puts the instances into the store.
func (r *registration) store() {
	stored, err := r.registry.store.Register(r.instances...)
	if err != nil {
		panic(err) // they were validated
	}
	r.registry.mu.Lock()
	ended := r.ended || r.stored != nil
	if !ended {
		r.stored, r.since = stored, time.Now()
		r.notify()
	}
	r.registry.mu.Unlock()
	if ended {
		_ = stored.Close(context.Background()) // the store has no error
	}
}

// notify says that the status has changed. The registry's lock is held.
func (r *registration) notify() {
	close(r.change)
	r.change = make(chan struct{})
}

// Status implements [discovery.Registration].
func (r *registration) Status() discovery.Status {
	r.registry.mu.Lock()
	defer r.registry.mu.Unlock()
	status := discovery.Status{Registered: r.stored != nil && !r.ended, Since: r.since, Changed: r.change}
	if r.registry.away != nil && !r.ended {
		status.Err = r.registry.away
	}
	return status
}

// Drain implements [discovery.Registration].
func (r *registration) Drain(ctx context.Context) error {
	stored := r.sent()
	if stored == nil {
		return nil
	}
	if err := r.registry.await(ctx); err != nil {
		return err
	}
	return stored.Drain(ctx)
}

// Close implements [discovery.Registration].
func (r *registration) Close(ctx context.Context) error {
	if r.sent() != nil {
		if err := r.registry.await(ctx); err != nil {
			return err
		}
	}
	return r.remove(ctx)
}

// sent returns what is in the store, nil if nothing ever was.
func (r *registration) sent() discovery.Registration {
	r.registry.mu.Lock()
	defer r.registry.mu.Unlock()
	return r.stored
}

// remove ends the registration.
func (r *registration) remove(ctx context.Context) error {
	r.registry.mu.Lock()
	ended, stored := r.ended, r.stored
	r.ended = true
	delete(r.registry.registrations, r)
	if !ended {
		r.since = time.Now()
		r.notify()
	}
	r.registry.mu.Unlock()
	if ended || stored == nil {
		return nil
	}
	return stored.Close(ctx)
}
