package schemas

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/quote"
	"github.com/onecall-dev/onecall/internal/schema"
)

// CheckerConfig is the configuration of a [Checker]. All fields are required.
type CheckerConfig struct {
	API       string // the bus name
	Contracts *contract.Index
	Fetcher   *Fetcher
	Log       *slog.Logger
	// Strict says that instances with an incompatible schema are not called.
	Strict bool
	// Incompatible counts the incompatible schemas.
	Incompatible *atomic.Uint64
}

// Checker compares each schema of an API's instances once with the program's
// own schema. Its methods are safe for all goroutines.
type Checker struct {
	config CheckerConfig
	cancel context.CancelFunc
	//nolint:containedctx // it is a running thing
	ctx     context.Context
	running sync.WaitGroup

	mu sync.Mutex // guards the fields below
	// checks has at most maxChecks elements.
	checks map[checkKey]*check
	// ownDigests are the digests of the program's own services.
	ownDigests map[protoreflect.FullName]string
	// accepted is when Accept last ran. The resolver calls Accept for all instances
	// together: before is when Accept last ran for the previous update.
	accepted, before time.Time
	closed           bool
}

const (
	// maxChecks is how many schemas of an API are known at most. While a new version
	// replaces another, its instances have two or three schemas.
	maxChecks = 64
	// keepCheck is how long a result is kept after the last instance with the schema
	// has gone.
	keepCheck = time.Minute
)

// errManySchemasKnown says that a schema is not checked, because the API has too many.
var errManySchemasKnown = fmt.Errorf("its instances have more than %d different schemas", maxChecks)

// checkKey identifies a check: the program's own service, and the digest of the
// schema that it is compared with.
type checkKey struct {
	service protoreflect.FullName
	digest  string
}

// check is the check of one schema.
type check struct {
	// pending says that the check is running, and lastErr why its last attempt failed.
	pending bool
	lastErr error
	// waiting has a callback for each channel that waits. update calls it.
	waiting map[any]func()
	// instance is the last instance that had the schema, and seen is when.
	instance discovery.Instance
	seen     time.Time
	// err is the result: nil if the schema is compatible.
	err *discovery.SchemaError
}

// NewChecker returns a checker. Its owner must call Close.
func NewChecker(config CheckerConfig) *Checker {
	ctx, cancel := context.WithCancel(context.Background())
	return &Checker{
		config: config, ctx: ctx, cancel: cancel,
		checks: make(map[checkKey]*check), ownDigests: make(map[protoreflect.FullName]string),
	}
}

// Close ends the checks and waits for them.
func (c *Checker) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
}

// Run runs f on another goroutine, and Close waits for it. After Close it does not
// run f.
func (c *Checker) Run(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.running.Go(f)
	}
}

// Accept returns an error if a channel must not call an instance because of its
// schema, and nil if it may. Without StrictSchema it always returns nil. See
// [resolver.Config].
func (c *Checker) Accept(channel any, instance discovery.Instance, again func()) error {
	if instance.Schema == "" {
		return nil // not served by this framework, or the schema is too large to publish
	}
	own := c.own(instance)
	if own == nil {
		return nil // without generated code there is nothing to compare with
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.accepted) > time.Second { // the first instance of another update
		c.before = c.accepted
	}
	c.accepted = now
	// Most instances have the program's own schema, and need no check.
	if c.closed || c.ownDigest(own) == instance.Schema {
		return nil
	}
	found := c.find(own, instance)
	if !c.config.Strict {
		return nil
	}
	switch {
	case found == nil:
		return fmt.Errorf("API %q: option StrictSchema: the instance at %s is not called: %w", c.config.API, instance.Address, errManySchemasKnown)
	case found.pending:
		if found.waiting == nil {
			found.waiting = make(map[any]func())
		}
		found.waiting[channel] = again
		if found.lastErr != nil {
			return fmt.Errorf("%w: option StrictSchema: its schema can't be read: %w", resolver.ErrPending, found.lastErr)
		}
		return resolver.ErrPending
	case found.err != nil:
		refused := *found.err
		refused.Address, refused.Version = instance.Address, instance.Version
		return &refused
	default:
		return nil
	}
}

// find returns the check of an instance's schema, and begins it if there is none.
// The result is nil if too many schemas are known already. The caller holds c.mu.
func (c *Checker) find(own protoreflect.ServiceDescriptor, instance discovery.Instance) *check {
	key := checkKey{own.FullName(), instance.Schema}
	found := c.checks[key]
	if found == nil {
		if !c.hasRoom() {
			return nil
		}
		found = &check{pending: true}
		c.checks[key] = found
		c.running.Go(func() { c.check(key, own) })
	}
	found.instance, found.seen = instance, c.accepted
	return found
}

// own returns the program's own descriptor of the service of an instance, nil if
// there is none.
func (c *Checker) own(instance discovery.Instance) protoreflect.ServiceDescriptor {
	if service := c.config.Contracts.Service(instance.Service); service != nil {
		return service.Descriptor
	}
	for _, service := range c.config.Contracts.Named(c.config.API) {
		return service.Descriptor
	}
	return nil
}

// ownDigest returns the digest of a service of the program's own. The caller holds
// c.mu.
func (c *Checker) ownDigest(own protoreflect.ServiceDescriptor) string {
	digest, ok := c.ownDigests[own.FullName()]
	if !ok {
		digest, _ = schema.Digest(own) // after an error "": no instance has that digest
		c.ownDigests[own.FullName()] = digest
	}
	return digest
}

// hasRoom drops the checks whose schema no instance has had for keepCheck, and reports
// whether another check fits. The caller holds c.mu.
func (c *Checker) hasRoom() bool {
	for key, found := range c.checks {
		if !found.pending && found.seen.Before(c.before.Add(-keepCheck)) {
			delete(c.checks, key)
		}
	}
	return len(c.checks) < maxChecks
}

// check gets a schema from an instance and compares it with the program's own. It
// stops after a few failures if no channel waited for them. Without StrictSchema no
// channel waits. The next instance with that schema begins another check.
func (c *Checker) check(key checkKey, own protoreflect.ServiceDescriptor) {
	const few = 5
	for failures, unwanted := 1, 0; ; failures++ {
		c.mu.Lock()
		instance := c.checks[key].instance
		c.mu.Unlock()
		served, err := c.config.Fetcher.Get(c.ctx, instance)
		if err == nil {
			c.compare(key, own, served, instance)
			return
		}
		if c.ctx.Err() != nil {
			return
		}
		level := slog.LevelDebug
		if failures == 1 && c.config.Strict {
			level = slog.LevelWarn
		}
		c.config.Log.Log(c.ctx, level, "cannot read the schema of an instance; trying again", "api", c.config.API, "address", instance.Address, "error", err)
		unwanted++
		if c.update(key, func(found *check) { found.lastErr = err }) {
			unwanted = 0
		}
		if unwanted >= few && c.giveUp(key) {
			return
		}
		if fetchBackoff.Wait(c.ctx, failures) != nil {
			return
		}
	}
}

// giveUp drops a check, unless a channel waits for it now.
func (c *Checker) giveUp(key checkKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.checks[key].waiting) > 0 {
		return false
	}
	delete(c.checks, key)
	return true
}

// compare keeps the result of a check, and logs an incompatible schema.
func (c *Checker) compare(key checkKey, own protoreflect.ServiceDescriptor, served *schema.Schema, instance discovery.Instance) {
	var incompatible *discovery.SchemaError
	for _, difference := range schema.Compare(c.config.API, own, served.Service) {
		if incompatible == nil {
			incompatible = &discovery.SchemaError{API: c.config.API, Address: instance.Address, Version: instance.Version}
		}
		incompatible.Differences = append(incompatible.Differences, difference.String())
	}
	if incompatible != nil {
		c.config.Incompatible.Add(1)
		c.config.Log.Warn("an instance has a schema that is incompatible with this program's", "api", c.config.API, "address", instance.Address,
			"version", quote.Line(instance.Version, quote.TextLimit), "refused", c.config.Strict, "differences", incompatible.Shown())
	}
	// After logging, so that the log says why before a call can fail.
	c.update(key, func(found *check) { found.pending, found.err = false, incompatible })
}

// update changes a check and calls the callbacks of the channels that wait for it. It
// reports whether there were any. If a channel must wait longer, Accept adds it again.
func (c *Checker) update(key checkKey, change func(*check)) (wanted bool) {
	c.mu.Lock()
	found := c.checks[key]
	waiting := found.waiting
	found.waiting = nil
	change(found)
	c.mu.Unlock()
	for _, again := range waiting {
		again()
	}
	return len(waiting) > 0
}

// Known returns how many schemas are known, with those that are being checked.
func (c *Checker) Known() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.checks)
}
