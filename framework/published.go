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
	// fetched are the schemas of instances that were read, by digest, mostTried at
	// most; digest is that of the one in use.
	fetched map[string]*schema.Schema
	digest  string
}

// follow gives what an API's instances publish, until release.
func (b *Bus) follow(api string) (*published, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil, closedError(api)
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
	useless := len(p.fetched) == 0
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

// now returns what the registry said last, nil before it did, and what is closed
// when it says more.
func (p *published) now() (*discovery.Snapshot, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot, p.changed
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
	return p.stands(rpc.digest)
}

// stands tells whether an instance has the schema of a digest, unless none is
// known; p.mu is held.
func (p *published) stands(digest string) bool {
	return p.snapshot == nil || len(p.snapshot.Instances) == 0 ||
		slices.ContainsFunc(p.snapshot.Instances, func(i discovery.Instance) bool { return i.Schema == digest })
}

// publishedSchema gives the schema that an API's instances publish, within the
// time of a call with such options, and its digest: one that has the RPC of a name,
// if any has; rpc is "" when any will do. name is what it is for.
func (b *Bus) publishedSchema(ctx context.Context, api, name, rpc string, options []grpc.CallOption) (*schema.Schema, string, error) {
	call, err := timeout.Begin(timeout.Declared(0, 0), options)
	if err != nil {
		return nil, "", failure{route: &route{rpc: name}, outcome: NotSent, err: err}.told()
	}
	if err := contract.CheckName(api); err != nil {
		return nil, "", invalid(name, "%v", err)
	}
	p, err := b.follow(api)
	if err != nil {
		return nil, "", err
	}
	defer b.release(api, p)
	limited, cancel := call.Context(ctx)
	defer cancel()
	defer context.AfterFunc(b.fetching.life, cancel)()
	found, digest, err := p.get(limited, b.fetching, api, rpc)
	if err != nil {
		return nil, "", b.unread(ctx, limited, name, err)
	}
	return found, digest, nil
}

// unread gives the error of a call that needs a schema and could not have it. ctx
// is the caller's own, limited the call's.
func (b *Bus) unread(ctx, limited context.Context, name string, err error) error {
	code := (&problem{err: err}).code()
	if limited.Err() != nil {
		code = status.FromContextError(limited.Err()).Code()
	}
	if b.ended(ctx, code) {
		return closedError(name, err)
	}
	causes := []error{err}
	if ended := endOf(ctx, code); ended != nil {
		causes = append(causes, ended)
	}
	return &callError{status: briefly(nil, code, name), text: name + ": " + err.Error() + " (the call was not sent)", outcome: NotSent, causes: causes}
}

// get returns the schema of an instance that has an RPC; when none has, and all
// schemas could be read, that of the first.
func (p *published) get(ctx context.Context, from *fetching, api, rpc string) (*schema.Schema, string, error) {
	instances, err := p.instances(ctx, api)
	if err != nil {
		return nil, "", err
	}
	has := func(found *schema.Schema) bool { return rpc == "" || methodNamed(found.Service, api, rpc) != nil }
	if found, digest := p.read(instances, has); found != nil {
		return found, digest, nil
	}
	var first discovery.Instance
	var errs []error
	for _, instance := range instances {
		found := p.readOf(instance.Schema)
		if found == nil {
			if found, err = from.get(ctx, instance); err == nil {
				p.keep(found, instance.Schema)
			}
		}
		switch {
		case found == nil:
			errs = append(errs, fmt.Errorf("the schema of API %q at %s: %w", api, instance.Address, err))
		case has(found):
			p.use(instance.Schema)
			return found, instance.Schema, nil
		case first.Schema == "":
			first = instance
		}
		if ctx.Err() != nil || len(errs) == mostTried {
			break
		}
	}
	if found := p.readOf(first.Schema); found != nil && len(errs) == 0 {
		return found, first.Schema, nil
	}
	return nil, "", errors.Join(errs...)
}

// read returns a schema that was read, of an instance, and that has what is wanted:
// the one in use if it does.
func (p *published) read(instances []discovery.Instance, has func(*schema.Schema) bool) (*schema.Schema, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found *schema.Schema
	var digest string
	for _, instance := range instances {
		read := p.fetched[instance.Schema]
		if read != nil && has(read) && (found == nil || instance.Schema == p.digest) {
			found, digest = read, instance.Schema
		}
	}
	return found, digest
}

// readOf returns the schema of a digest if it was read.
func (p *published) readOf(digest string) *schema.Schema {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetched[digest]
}

// keep keeps a schema for who asks next, and drops those that no instance has.
func (p *published) keep(fetched *schema.Schema, digest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other := range p.fetched {
		if !p.stands(other) || len(p.fetched) >= mostTried {
			delete(p.fetched, other)
		}
	}
	if p.fetched == nil {
		p.fetched = make(map[string]*schema.Schema)
	}
	p.fetched[digest] = fetched
	if p.fetched[p.digest] == nil {
		p.digest = digest
	}
}

// use has the schema of a digest be the one in use.
func (p *published) use(digest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.digest = digest
}

// mostTried is how many instances may fail to give their schema for one call, and how
// many schemas of an API are kept.
const mostTried = 5

// instances waits for instances that publish a schema.
func (p *published) instances(ctx context.Context, api string) ([]discovery.Instance, error) {
	waiting := resolver.NewNoAnswerError(api)
	for {
		snapshot, changed := p.now()
		if snapshot != nil {
			if err := snapshot.Err(); err != nil {
				return nil, err
			}
			publishing := slices.DeleteFunc(slices.Clone(snapshot.Instances), func(i discovery.Instance) bool { return i.Schema == "" })
			if len(publishing) == 0 {
				return nil, fmt.Errorf("API %q: %w", api, errNoSchema)
			}
			return publishing, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, waiting
		}
	}
}
