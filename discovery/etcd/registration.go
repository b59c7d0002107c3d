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
			if reg.registered {
				reg.registered, reg.since = false, time.Now()
				r.registrar.notify()
			}
		})
		if sent {
			reg.closed = version
		}
	})
	r.registrar.change(func() {
		reg.entries = entries
		reg.sinceVersion = r.registrar.version + 1
		r.registrar.registrations[reg] = struct{}{}
	})
	return reg, nil
}

// warnOfLoopback logs a warning if an instance has a loopback address and etcd is on
// another machine: callers on other machines find the address and cannot reach it.
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

// maxDescriptorBytes bounds the descriptors of an API. etcd accepts requests of up to
// 1.5 MiB by default.
const maxDescriptorBytes = 1 << 20

// registration is the instances of one call of Register.
type registration struct {
	registrar *registrar
	instances []discovery.Instance

	// The registrar's lock guards the next six.
	entries      map[string]entry // desired in etcd
	sinceVersion uint64           // the version in which they became so
	sent         bool             // whether they were ever sent to etcd
	registered   bool             // whether etcd has them, as far as is known
	since        time.Time        // when registered became what it is
	before       bool             // whether they were registered before

	// closeOnce withdraws the entries and sets closed, the version to wait for: 0 if
	// nothing was ever sent to etcd, so that there is nothing to remove.
	closeOnce func()
	closed    uint64
}

var _ discovery.Registration = (*registration)(nil)

// encode returns the entries of the instances in a state, or in their own if it is
// "".
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
func (r *registration) Status() discovery.Status { return r.registrar.statusOf(r) }

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
		return fmt.Errorf("etcd: callers could not be notified that the instances are draining: %w", err)
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

// await returns when etcd has a version, or why it has not, or why it did not permit
// what this registration wrote in it.
func (r *registration) await(ctx context.Context, version uint64) error {
	if err := r.registrar.await(ctx, version); err != nil {
		return err
	}
	r.registrar.mu.Lock()
	defer r.registrar.mu.Unlock()
	return r.registrar.denial(r)
}
