package schemas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/internal/backoff"
	"github.com/onecall-dev/onecall/internal/quote"
	"github.com/onecall-dev/onecall/internal/schema"
)

// ErrNoSchema says that the parameters of an API's RPCs are not known.
var ErrNoSchema = errors.New("its instances publish no schema: link its generated code into this program, or have it served by framework.Serve")

// fetchBackoff spaces out attempts to get a schema.
var fetchBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: 10 * time.Second}

const (
	// fetchLimit is the time limit of one request.
	fetchLimit = 5 * time.Second
	// fetchesAtOnce is how many requests run at the same time.
	fetchesAtOnce = 8
	// schemasAMinute is how many schemas of one API are read within a minute. Reading
	// one can take 0.15 s of CPU time, and a program that may register instances can
	// publish any number of schemas.
	schemasAMinute = 8
	// readAgain is the pause after a schema that could not be read. Reading it again
	// would fail again.
	readAgain = time.Minute
)

// errManySchemas says that a schema is not read before the minute has passed.
var errManySchemas = fmt.Errorf("its instances publish more than %d schemas within a minute: more are read after that", schemasAMinute)

// Fetcher gets the schemas of instances from a registry. All goroutines that
// need the schema of an instance share one request, and there is a pause after a
// failed request. It reads one schema at a time. Its methods are safe for all
// goroutines.
type Fetcher struct {
	registry discovery.Registry
	//nolint:containedctx // it is a running thing
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	// requests has a slot for each running request, and reading has one slot for the
	// schema that is being read.
	requests, reading chan struct{}
	// unpacked is what NewFetcher got as unpack.
	unpacked func(packed, service string) (*schema.Schema, error)

	mu     sync.Mutex // guards the fields below
	closed bool
	// fetches are the requests that are under way or have failed.
	fetches map[fetchKey]*fetch
	// read has the times of the last schemasAMinute schemas that were read, by API.
	read map[string][]time.Time
}

// fetchKey identifies the schema that an instance published.
type fetchKey struct {
	api, address, digest string
	incarnation          discovery.Incarnation
}

// fetch is the request for the schema of one instance.
type fetch struct {
	done   chan struct{} // closed when the request has ended; then schema, err and again are set
	schema *schema.Schema
	err    error
	again  time.Time // until then the same error is returned again
	// failures counts consecutive failures.
	failures int
}

// NewFetcher returns a fetcher. unpack reads a schema, such as [schema.Unpack]. The owner
// of the fetcher must call Close.
func NewFetcher(registry discovery.Registry, unpack func(packed, service string) (*schema.Schema, error)) *Fetcher {
	ctx, cancel := context.WithCancel(context.Background())
	return &Fetcher{
		registry: registry, ctx: ctx, cancel: cancel, requests: make(chan struct{}, fetchesAtOnce), reading: make(chan struct{}, 1),
		unpacked: unpack, fetches: make(map[fetchKey]*fetch), read: make(map[string][]time.Time),
	}
}

// Close ends the requests and waits for them. Reading a schema cannot be canceled:
// Close does not wait for it, and the result is dropped.
func (f *Fetcher) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.running.Wait()
}

// Life returns a context that ends with Close.
func (f *Fetcher) Life() context.Context { return f.ctx }

// Get returns the schema of an instance, or the error of ctx if ctx ends first.
func (f *Fetcher) Get(ctx context.Context, instance discovery.Instance) (*schema.Schema, error) {
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

// begin begins a request, unless one is under way or the pause after a failed one has
// not passed. Then it returns that request.
func (f *Fetcher) begin(key fetchKey, instance discovery.Instance) (*fetch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, callerr.ErrClosed
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
	f.running.Add(1)
	go f.run(key, at, instance)
	return at, nil
}

// run requests a schema and reads it. Close waits only for the request.
func (f *Fetcher) run(key fetchKey, at *fetch, instance discovery.Instance) {
	packed, err := f.request(instance)
	f.running.Done()
	pause := time.Duration(0)
	var found *schema.Schema
	if err == nil {
		found, err = f.unpack(packed, instance)
		pause = readAgain
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer close(at.done)
	at.schema, at.err = found, err
	if err == nil {
		delete(f.fetches, key) // the callers of Get keep the schema
		return
	}
	at.failures++
	at.again = time.Now().Add(max(pause, fetchBackoff.Delay(at.failures)))
}

// request gets the descriptors of an instance from the registry.
func (f *Fetcher) request(instance discovery.Instance) (packed string, err error) {
	if !f.mayRead(instance.API, false) {
		return "", errManySchemas
	}
	select {
	case f.requests <- struct{}{}:
		defer func() { <-f.requests }()
	case <-f.ctx.Done():
		return "", callerr.ErrClosed
	}
	ctx, cancel := context.WithTimeout(f.ctx, fetchLimit)
	defer cancel()
	packed, err = f.registry.Descriptors(ctx, instance)
	if err == nil && packed == "" {
		err = ErrNoSchema
	}
	return packed, err
}

// unpack reads descriptors, and checks that they have the digest that the instance
// registered.
func (f *Fetcher) unpack(packed string, instance discovery.Instance) (*schema.Schema, error) {
	select {
	case f.reading <- struct{}{}:
		defer func() { <-f.reading }()
	case <-f.ctx.Done():
		return nil, callerr.ErrClosed
	}
	if f.ctx.Err() != nil { // if both cases are ready, select takes either
		return nil, callerr.ErrClosed
	}
	if !f.mayRead(instance.API, true) {
		return nil, errManySchemas
	}
	found, err := f.unpacked(packed, instance.Service)
	if err != nil {
		return nil, err
	}
	if digest := found.PublishedDigest(); digest != instance.Schema {
		return nil, fmt.Errorf("the descriptors have the digest %s, and the instance registered %s: one of them was changed", digest, quote.Text(instance.Schema))
	}
	return found, nil
}

// mayRead reports whether a schema of an API may be read now. If it may and counted is
// true, mayRead also counts the schema as read.
func (f *Fetcher) mayRead(api string, counted bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if !counted {
		times := f.read[api]
		return len(times) < schemasAMinute || now.Sub(times[0]) >= time.Minute
	}
	for other, times := range f.read { // the map must not grow: names of APIs come from outside
		recent := slices.DeleteFunc(times, func(at time.Time) bool { return now.Sub(at) >= time.Minute })
		if len(recent) == 0 {
			delete(f.read, other)
		} else {
			f.read[other] = recent
		}
	}
	if len(f.read[api]) >= schemasAMinute {
		return false
	}
	f.read[api] = append(f.read[api], now)
	return true
}
