package etcd

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/etcdclient"
	"github.com/onecall-dev/onecall/internal/quote"
)

// Register implements [discovery.Registry].
func (r *Registry) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	if r.conn.Life().Err() != nil {
		return nil, errClosed
	}
	reg := &registration{registrar: r.registrar, instances: slices.Clone(instances), since: time.Now()}
	entries, err := reg.encode("")
	if err != nil {
		return nil, err
	}
	r.warnOfLoopback(instances)
	reg.closeOnce = sync.OnceFunc(func() {
		sent := false
		version := r.registrar.change(func() {
			delete(r.registrar.registrations, reg)
			sent = reg.sent
			if reg.up {
				reg.up, reg.since = false, time.Now()
				r.registrar.tell()
			}
		})
		if sent {
			reg.closed = version
		}
	})
	r.registrar.change(func() {
		reg.entries = entries
		reg.born = r.registrar.version + 1
		r.registrar.registrations[reg] = struct{}{}
	})
	return reg, nil
}

// warnOfLoopback logs a warning when the address of an instance is loopback,
// which callers on other machines cannot reach, and etcd is elsewhere, where they
// find it.
func (r *Registry) warnOfLoopback(instances []discovery.Instance) {
	remote := r.config.client().Remote()
	if remote == "" {
		return
	}
	for _, instance := range instances {
		if host, _, err := net.SplitHostPort(instance.Address); err == nil && etcdclient.Loopback(host) {
			r.config.Logger.Warn("registering a loopback address in an etcd on another machine: callers on other machines cannot reach it; "+
				"set framework.ListenOn, or framework.AdvertiseAs, to an address that they can reach", "address", instance.Address, "endpoint", remote)
			return
		}
	}
}

// maxDescriptorBytes is the most that etcd takes of an API's descriptors: a
// request has 1.5 MiB at most, unless etcd is told otherwise.
const maxDescriptorBytes = 1 << 20

// registration is the instances of one call of Register.
type registration struct {
	registrar *registrar
	instances []discovery.Instance

	// The registrar's lock guards the next six: what should stand in etcd, the
	// version since which it should, whether it was ever sent there, whether and
	// since when it is registered or not, and whether it ever was.
	entries map[string]entry
	born    uint64
	sent    bool
	up      bool
	since   time.Time
	again   bool

	// closeOnce withdraws entries and sets closed, the version to wait for: 0
	// when nothing was ever sent to etcd, so that nothing is to be removed.
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
		if len(instance.Descriptors) > maxDescriptorBytes {
			return nil, &discovery.InstanceError{Instance: instance, Field: "Descriptors", Problem: fmt.Sprintf(
				"have %d bytes, and etcd takes %d: part the API, or its .proto files, into smaller ones", len(instance.Descriptors), maxDescriptorBytes)}
		}
		entries[keys.instance(instance)] = entry{value: string(encoded), known: keys.known(instance.API)}
		if instance.Descriptors != "" {
			entries[keys.schema(instance)] = entry{value: instance.Descriptors}
		}
	}
	return entries, nil
}

// apis returns the names of the APIs of which there are instances, the first ten.
func (r *registration) apis() string {
	const most = 10
	names := make([]string, 0, len(r.instances))
	for _, instance := range r.instances {
		names = append(names, instance.API)
	}
	slices.Sort(names)
	return quote.Names(slices.Compact(names), most)
}

// Status implements [discovery.Registration].
func (r *registration) Status() discovery.Status { return r.registrar.status(r) }

// Drain implements [discovery.Registration].
func (r *registration) Drain(ctx context.Context) error {
	entries, err := r.encode(discovery.Draining)
	if err != nil {
		return err
	}
	sent := false
	version := r.registrar.change(func() { r.entries, sent = entries, r.sent })
	if !sent {
		return nil // no caller knows of the instances
	}
	if err := r.await(ctx, version); err != nil {
		return fmt.Errorf("etcd: callers could not be told that the instances are draining: %w", err)
	}
	return nil
}

// Close implements [discovery.Registration].
func (r *registration) Close(ctx context.Context) error {
	r.closeOnce()
	if r.closed == 0 {
		return nil
	}
	if err := r.await(ctx, r.closed); err != nil {
		return fmt.Errorf("etcd: the registration could not be removed and ends by its lease in at most %v: %w", r.registrar.ttl, err)
	}
	return nil
}

// await returns when a version stands in etcd, or why it, or what of it is the
// registration's, does not.
func (r *registration) await(ctx context.Context, version uint64) error {
	if err := r.registrar.await(ctx, version); err != nil {
		return err
	}
	r.registrar.mu.Lock()
	defer r.registrar.mu.Unlock()
	return r.registrar.denial(r)
}
