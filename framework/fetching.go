package framework

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/backoff"
	"github.com/onecall-dev/onecall/internal/schema"
)

// errNoSchema says that nobody can tell what an API's RPCs take.
var errNoSchema = errors.New("its instances publish no schema: link its generated code into this program, or have it served by framework.Serve")

// fetchBackoff spaces out attempts to get a schema.
var fetchBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: 10 * time.Second}

// fetchLimit bounds one.
const fetchLimit = 5 * time.Second

// fetching gets schemas of instances out of a registry: one request for all who
// ask for an instance's at once, and a pause after one that failed. Its methods
// are safe for all goroutines.
type fetching struct {
	registry discovery.Registry
	//nolint:containedctx // it is a running thing
	life  context.Context
	end   context.CancelFunc
	under sync.WaitGroup

	mu     sync.Mutex // guards fetches and closed
	closed bool
	// fetches are those under way, and those that failed.
	fetches map[fetchKey]*fetch
}

// fetchKey is what an instance published.
type fetchKey struct {
	api, address, digest string
	incarnation          discovery.Incarnation
}

// fetch is one instance's.
type fetch struct {
	done   chan struct{} // closed when it has ended; then the next three are set
	schema *schema.Schema
	err    error
	again  time.Time // before then a failure stands
	// failures counts those in a row.
	failures int
}

func newFetching(registry discovery.Registry) *fetching {
	life, end := context.WithCancel(context.Background())
	return &fetching{registry: registry, life: life, end: end, fetches: make(map[fetchKey]*fetch)}
}

// close ends what is being got and waits for it.
func (f *fetching) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.end()
	f.under.Wait()
}

// get gives an instance's schema, within ctx.
func (f *fetching) get(ctx context.Context, instance discovery.Instance) (*schema.Schema, error) {
	at, err := f.begin(fetchKey{instance.API, instance.Address, instance.Schema, instance.Incarnation}, instance)
	if err != nil {
		return nil, err
	}
	select {
	case <-at.done:
		return at.schema, at.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begin begins to get a schema, unless that is under way or failed just now.
func (f *fetching) begin(key fetchKey, instance discovery.Instance) (*fetch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	before := f.fetches[key]
	if before != nil && (before.again.IsZero() || time.Now().Before(before.again)) {
		return before, nil
	}
	for other, failed := range f.fetches { // instances that are gone
		if !failed.again.IsZero() && time.Since(failed.again) > time.Minute {
			delete(f.fetches, other)
		}
	}
	at := &fetch{done: make(chan struct{})}
	if before != nil {
		at.failures = before.failures
	}
	f.fetches[key] = at
	f.under.Go(func() { f.run(key, at, instance) })
	return at, nil
}

func (f *fetching) run(key fetchKey, at *fetch, instance discovery.Instance) {
	ctx, cancel := context.WithTimeout(f.life, fetchLimit)
	defer cancel()
	packed, err := f.registry.Descriptors(ctx, instance)
	switch {
	case err != nil:
	case packed == "":
		err = errNoSchema
	default:
		at.schema, err = schema.Unpack(packed, instance.Service)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer close(at.done)
	at.err = err
	if err == nil {
		delete(f.fetches, key) // who asked keeps it
		return
	}
	at.failures++
	at.again = time.Now().Add(fetchBackoff.Delay(at.failures))
}
