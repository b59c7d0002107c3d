package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/onecall-dev/onecall/discovery"
)

var errClosed = errors.New("etcd: the registry is closed")

// Register implements [discovery.Registry].
func (r *Registry) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	if r.conn.Life().Err() != nil {
		return nil, errClosed
	}
	reg := &registration{registrar: r.registrar, instances: slices.Clone(instances), registered: make(chan struct{})}
	entries, err := reg.encode("")
	if err != nil {
		return nil, err
	}
	reg.closeOnce = sync.OnceFunc(func() {
		reg.closed = r.registrar.change(func() { delete(r.registrar.registrations, reg) })
	})
	r.registrar.change(func() {
		reg.entries = entries
		reg.born = r.registrar.version + 1
		r.registrar.registrations[reg] = struct{}{}
	})
	return reg, nil
}

// registration is the instances of one call of Register.
type registration struct {
	registrar  *registrar
	instances  []discovery.Instance
	registered chan struct{}

	// entries and born are guarded by the registrar's lock: what should stand
	// in etcd, and the version since which it should.
	entries map[string]entry
	born    uint64

	// closeOnce withdraws entries and sets closed, the version to wait for.
	closeOnce func()
	closed    uint64
}

var _ discovery.Registration = (*registration)(nil)

// encode gives what should stand in etcd when the instances are in a state;
// "" means their own.
func (r *registration) encode(state discovery.State) (map[string]entry, error) {
	entries := make(map[string]entry, len(r.instances))
	keys := r.registrar.keys
	for _, instance := range r.instances {
		if err := instance.Validate(); err != nil {
			return nil, err
		}
		if state != "" {
			instance.State = state
		}
		encoded, err := encodeInstance(instance)
		if err != nil {
			return nil, fmt.Errorf("etcd: instance of %q: %w", instance.API, err)
		}
		name := instance.Incarnation.String()
		if name == "" {
			name = instance.Address
		}
		entries[keys.instance(instance.API, name)] = entry{value: string(encoded), known: keys.known(instance.API)}
	}
	return entries, nil
}

// isRegistered tells whether registered is closed.
func (r *registration) isRegistered() bool {
	select {
	case <-r.registered:
		return true
	default:
		return false
	}
}

// Registered implements [discovery.Registration].
func (r *registration) Registered() <-chan struct{} { return r.registered }

// Drain implements [discovery.Registration].
func (r *registration) Drain(ctx context.Context) error {
	entries, err := r.encode(discovery.Draining)
	if err != nil {
		return err
	}
	version := r.registrar.change(func() { r.entries = entries })
	if err := r.registrar.await(ctx, version); err != nil {
		return fmt.Errorf("etcd: callers could not be told that the instances are draining: %w", err)
	}
	return nil
}

// Close implements [discovery.Registration].
func (r *registration) Close(ctx context.Context) error {
	r.closeOnce()
	if err := r.registrar.await(ctx, r.closed); err != nil {
		return fmt.Errorf("etcd: the registration could not be removed and ends by its lease in at most %v: %w", r.registrar.ttl, err)
	}
	return nil
}
