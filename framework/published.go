package framework

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
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
	// fetched is the schema that is in use, and digest its own.
	fetched *schema.Schema
	digest  string
}

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
// time of a call with such options, and its digest. name is what it is for.
func (b *Bus) publishedSchema(ctx context.Context, api, name string, options []grpc.CallOption) (*schema.Schema, string, error) {
	call, err := timeout.Begin(timeout.Declared(0, 0), options)
	if err != nil {
		return nil, "", failure{route: &route{rpc: name}, outcome: NotSent, err: err}.told()
	}
	if err := contract.CheckName(api); err != nil {
		return nil, "", invalid("%s: %v", name, err)
	}
	p, err := b.follow(api)
	if err != nil {
		return nil, "", err
	}
	defer b.release(api, p)
	limited, cancel := call.Context(ctx)
	defer cancel()
	defer context.AfterFunc(b.fetching.life, cancel)()
	found, digest, err := p.get(limited, b.fetching, api)
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
		return notSent(codes.Canceled, name+": "+ErrClosed.Error()+" (the call was not sent)", ErrClosed, err)
	}
	causes := []error{err}
	if ended := endOf(ctx, code); ended != nil {
		causes = append(causes, ended)
	}
	return &callError{status: briefly(nil, code, name), text: name + ": " + err.Error() + " (the call was not sent)", outcome: NotSent, causes: causes}
}

// get gives the schema of an instance: of the first whose can be had.
func (p *published) get(ctx context.Context, from *fetching, api string) (*schema.Schema, string, error) {
	instances, err := p.instances(ctx, api)
	if err != nil {
		return nil, "", err
	}
	p.mu.Lock()
	fetched, digest := p.fetched, p.digest
	p.mu.Unlock()
	if fetched != nil && slices.ContainsFunc(instances, func(i discovery.Instance) bool { return i.Schema == digest }) {
		return fetched, digest, nil
	}
	var errs []error
	for _, instance := range instances {
		fetched, err = from.get(ctx, instance)
		if err == nil {
			p.keep(fetched, instance.Schema)
			return fetched, instance.Schema, nil
		}
		errs = append(errs, fmt.Errorf("the schema of API %q at %s: %w", api, instance.Address, err))
		if ctx.Err() != nil || len(errs) == mostTried {
			break
		}
	}
	return nil, "", errors.Join(errs...)
}

// keep keeps a schema for who asks next.
func (p *published) keep(fetched *schema.Schema, digest string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched, p.digest = fetched, digest
}

// mostTried is how many instances are asked for their schema for one call.
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
