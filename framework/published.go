package framework

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
)

// published is what an API's instances publish of it, for programs that do not
// have its generated code. It follows the registry until stop.
type published struct {
	stop func()
	// users are the calls that look at it; the bus's lock guards them.
	users int

	// mu guards the fields below.
	mu       sync.Mutex
	snapshot *discovery.Snapshot // nil before the registry has answered
	changed  chan struct{}
	// fetched is the schema that is in use, and digest its own.
	fetched *schema.Schema
	digest  string
}

// errNoSchema says that nobody can tell what an API's RPCs take.
var errNoSchema = errors.New("its instances publish no schema: link its generated code into this program, or have it served by framework.Serve")

// follow gives what an API's instances publish, until release.
func (b *Bus) follow(api string) (*published, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil, ErrClosed
	}
	p, ok := b.published[api]
	if !ok {
		p = &published{changed: make(chan struct{})}
		p.stop = b.registry.Watch(api, p.tell)
		b.published[api] = p
	}
	p.users++
	return p, nil
}

// release lets go what follow gave. An API of which nothing could be had is no
// longer followed: names may come from anywhere.
func (b *Bus) release(api string, p *published) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.users--
	p.mu.Lock()
	useless := p.fetched == nil
	p.mu.Unlock()
	if p.users == 0 && useless && b.published[api] == p {
		delete(b.published, api)
		p.stop()
	}
}

func (p *published) tell(snapshot discovery.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshot = &snapshot
	close(p.changed)
	p.changed = make(chan struct{})
}

// current tells whether the schema of an RPC that was called by name is still
// the program's own or that of an instance.
func (b *Bus) current(rpc *namedRPC) bool {
	if rpc.digest == "" {
		return true
	}
	api := rpc.route.conn.api
	p, err := b.follow(api)
	if err != nil {
		return false
	}
	defer b.release(api, p)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot == nil || len(p.snapshot.Instances) == 0 || p.has(rpc.digest)
}

// has tells whether an instance has the schema of a digest; p.mu is held.
func (p *published) has(digest string) bool {
	return slices.ContainsFunc(p.snapshot.Instances, func(i discovery.Instance) bool { return i.Schema == digest })
}

// publishedSchema gives the schema that an API's instances publish, within ctx
// and the default timeout. name is what it is for.
func (b *Bus) publishedSchema(ctx context.Context, api, name string) (*schema.Schema, string, error) {
	if err := contract.CheckName(api); err != nil {
		return nil, "", invalid("%s: %v", name, err)
	}
	p, err := b.follow(api)
	if err != nil {
		return nil, "", err
	}
	defer b.release(api, p)
	ctx, cancel := context.WithTimeout(ctx, timeout.Default)
	defer cancel()
	instance, err := p.instance(ctx, api)
	if err != nil {
		problem := &problem{err: err}
		code := problem.code()
		if ctx.Err() != nil {
			code = codes.DeadlineExceeded
			if errors.Is(ctx.Err(), context.Canceled) {
				code = codes.Canceled
			}
		}
		return nil, "", notSent(code, name+": "+err.Error()+" (the call was not sent)", err)
	}
	p.mu.Lock()
	fetched, digest := p.fetched, p.digest
	p.mu.Unlock()
	if fetched != nil && digest == instance.Schema {
		return fetched, digest, nil
	}
	fetched, err = fetchSchema(ctx, b.registry, instance)
	if err != nil {
		return nil, "", notSent(codes.Unavailable, fmt.Sprintf("%s: the schema of API %q: %v (the call was not sent)", name, api, err), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched, p.digest = fetched, instance.Schema
	return fetched, instance.Schema, nil
}

// instance waits for an instance that publishes a schema.
func (p *published) instance(ctx context.Context, api string) (discovery.Instance, error) {
	waiting := resolver.NewNoAnswerError(api)
	for {
		p.mu.Lock()
		snapshot, changed := p.snapshot, p.changed
		p.mu.Unlock()
		if snapshot != nil {
			if err := snapshot.Err(); err != nil {
				return discovery.Instance{}, err
			}
			at := slices.IndexFunc(snapshot.Instances, func(i discovery.Instance) bool { return i.Schema != "" })
			if at < 0 {
				return discovery.Instance{}, fmt.Errorf("API %q: %w", api, errNoSchema)
			}
			return snapshot.Instances[at], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return discovery.Instance{}, waiting
		}
	}
}

// fetchSchema asks a registry for an instance's schema.
func fetchSchema(ctx context.Context, registry discovery.Registry, instance discovery.Instance) (*schema.Schema, error) {
	packed, err := registry.Descriptors(ctx, instance)
	switch {
	case err != nil:
		return nil, err
	case packed == "":
		return nil, errNoSchema
	}
	return schema.Unpack(packed, instance.Service)
}
