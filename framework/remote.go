package framework

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
)

// mostSchemas is how many schemas of an API are kept at most. A call also stops after
// that many failures to get a schema.
const mostSchemas = 5

// remoteSchemas are the schemas of an API that its instances publish, for programs
// without its generated code. Its methods are safe for all goroutines.
type remoteSchemas struct {
	mu sync.Mutex // guards the fields below
	// fetched are the schemas that were read, by digest. digest is the digest of the
	// schema in use.
	fetched map[string]*schema.Schema
	digest  string
}

// empty reports whether no schema is kept.
func (r *remoteSchemas) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.fetched) == 0
}

// of returns the schema with a digest, nil if it was not read.
func (r *remoteSchemas) of(digest string) *schema.Schema {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fetched[digest]
}

// inUse returns the schema in use and its digest.
func (r *remoteSchemas) inUse() (*schema.Schema, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fetched[r.digest], r.digest
}

// use makes the schema with a digest the schema in use.
func (r *remoteSchemas) use(digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.digest = digest
}

// find returns a schema of one of the instances for which has returns true, and its
// digest. It prefers the schema in use.
func (r *remoteSchemas) find(instances []discovery.Instance, has func(*schema.Schema) bool) (found *schema.Schema, digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, instance := range instances {
		fetched := r.fetched[instance.Schema]
		if fetched != nil && has(fetched) && (found == nil || instance.Schema == r.digest) {
			found, digest = fetched, instance.Schema
		}
	}
	return found, digest
}

// keep keeps a schema. It drops the schemas that no instance has, and others if there
// are too many.
func (r *remoteSchemas) keep(fetched *schema.Schema, digest string, isCurrent func(digest string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.fetched {
		if !isCurrent(other) || len(r.fetched) >= mostSchemas {
			delete(r.fetched, other)
		}
	}
	if r.fetched == nil {
		r.fetched = make(map[string]*schema.Schema)
	}
	r.fetched[digest] = fetched
	if r.fetched[r.digest] == nil {
		r.digest = digest
	}
}

// isCurrent reports whether an instance has the schema with a digest, or no instance is
// known. It takes no lock.
func (a *api) isCurrent(digest string) bool {
	latest := a.watch.latest.Load()
	return latest == nil || len(latest.Instances) == 0 ||
		slices.ContainsFunc(latest.Instances, func(i discovery.Instance) bool { return i.Schema == digest })
}

// remoteSchema returns a schema that an instance of an API publishes, and its digest.
// It prefers a schema that has the RPC. rpc is "" if any schema is accepted. It waits
// for at most the timeout of a call with these options. what is the name in its errors.
func (b *Bus) remoteSchema(ctx context.Context, name, what, rpc string, options []grpc.CallOption) (*schema.Schema, string, error) {
	call, err := timeout.Begin(timeout.Declared(0, 0), options)
	if err != nil {
		return nil, "", failure{rpc: what, outcome: NotSent, err: err}.asError()
	}
	if err := contract.CheckName(name); err != nil {
		return nil, "", invalid(what, "%v", err)
	}
	of, err := b.acquire(name, what)
	if err != nil {
		return nil, "", err
	}
	defer b.release(of)
	limited, cancel := b.limit(ctx, call)
	defer cancel()
	found, digest, err := of.remoteSchema(limited, rpc)
	if err != nil {
		return nil, "", b.schemaError(ctx, limited, what, err)
	}
	return found, digest, nil
}

// remoteSchema returns a schema that has the RPC. If no schema has it, and all could be
// read, it returns the first.
func (a *api) remoteSchema(ctx context.Context, rpc string) (*schema.Schema, string, error) {
	instances, err := a.publishing(ctx)
	if err != nil {
		return nil, "", err
	}
	has := func(found *schema.Schema) bool { return rpc == "" || methodByName(found.Service, a.name, rpc) != nil }
	if found, digest := a.schemas.find(instances, has); found != nil {
		return found, digest, nil
	}
	var first *schema.Schema
	var firstDigest string
	var errs []error
	for _, instance := range instances {
		found, err := a.fetch(ctx, instance)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("the schema of API %q at %s: %w", a.name, instance.Address, err))
		case has(found):
			a.schemas.use(instance.Schema)
			return found, instance.Schema, nil
		case first == nil:
			first, firstDigest = found, instance.Schema
		}
		if ctx.Err() != nil || len(errs) == mostSchemas {
			break
		}
	}
	if first != nil && len(errs) == 0 {
		return first, firstDigest, nil
	}
	return nil, "", errors.Join(errs...)
}

// fetch returns the schema of an instance, and keeps it.
func (a *api) fetch(ctx context.Context, instance discovery.Instance) (*schema.Schema, error) {
	if found := a.schemas.of(instance.Schema); found != nil {
		return found, nil
	}
	found, err := a.bus.fetcher.get(ctx, instance)
	if err == nil {
		a.schemas.keep(found, instance.Schema, a.isCurrent)
	}
	return found, err
}

// publishing waits for the registry, and returns the instances that publish a schema.
func (a *api) publishing(ctx context.Context) ([]discovery.Instance, error) {
	snapshot, err := a.watch.wait(ctx, func(discovery.Snapshot) bool { return true })
	if err == nil {
		err = snapshot.Err()
	}
	if err != nil {
		return nil, err
	}
	instances := slices.DeleteFunc(slices.Clone(snapshot.Instances), func(i discovery.Instance) bool { return i.Schema == "" })
	if len(instances) == 0 {
		return nil, fmt.Errorf("API %q: %w", a.name, errNoSchema)
	}
	return instances, nil
}

// schemaError returns the error of a call that could not get a schema from the registry,
// or find out whether the API exists. ctx is the program's context, limited the call's.
func (b *Bus) schemaError(ctx, limited context.Context, what string, err error) error {
	code := codeOf(err)
	if limited.Err() != nil {
		code = status.FromContextError(limited.Err()).Code()
	}
	if b.ended(ctx, code) {
		return closedError(what, err)
	}
	causes := []error{err}
	if ended := endOf(ctx, code); ended != nil {
		causes = append(causes, ended)
	}
	text := fmt.Sprintf("%s: %v (%v)", what, err, NotSent)
	return &callError{status: briefly(nil, code, what), text: text, outcome: NotSent, causes: causes}
}
