package framework

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/internal/quote"
	"github.com/onecall-dev/onecall/internal/schema"
)

// SchemaError says that an instance has a schema with which calls of this
// program may go wrong. Under [StrictSchema] it is not called.
type SchemaError struct {
	// API is the bus name, Address and Version are the instance's.
	API, Address, Version string
	// Differences say each what it is here and there, each shortened, the first
	// 100.
	Differences []string
}

// shownDifferences is how many a text shows.
const shownDifferences = 10

// Error implements error.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("API %q: the instance at %s (version %s) has a schema that is incompatible with the one of this program: %s; "+
		"build both from compatible .proto files, or leave StrictSchema out", e.API, quote.Line(e.Address, quote.TextLimit), quote.Text(e.Version), e.shown())
}

// shown returns the first differences, for errors and log lines.
func (e *SchemaError) shown() string {
	shown := strings.Join(e.Differences[:min(len(e.Differences), shownDifferences)], "; ")
	if more := len(e.Differences) - shownDifferences; more > 0 {
		shown += fmt.Sprintf("; and %d more", more)
	}
	return shown
}

// drift judges instances of one API by their schema, each schema once. Its
// methods are safe for all goroutines.
type drift struct {
	bus *Bus
	api string
	// service is the called one, by its full proto name; "" is any.
	service string
	end     context.CancelFunc
	//nolint:containedctx // it is a running thing
	life    context.Context
	judging sync.WaitGroup

	mu sync.Mutex // guards the fields below
	// verdicts are by digest, maxVerdicts at most.
	verdicts map[string]*verdict
	// ownDigests are the digests of the program's own services, by their names.
	ownDigests map[string]string
	// named returns the program's own service of the API's name, nil when there is
	// none.
	named func() protoreflect.ServiceDescriptor
	// accepted is when an instance was looked at last, and before when the last
	// was before that: then all instances had been looked at.
	accepted, before time.Time
	closed           bool
	// served is whether an instance of service was ever seen, and others are the
	// services of instances that serve another.
	served bool
	others []string
}

const (
	// maxVerdicts bounds the schemas of an API that are known: its instances have
	// two or three while a new version replaces another.
	maxVerdicts = 64
	// keepVerdict is how long the verdict on a schema that no instance has any more
	// is kept.
	keepVerdict = time.Minute
)

// errManyVerdicts says that a schema is not looked at.
var errManyVerdicts = fmt.Errorf("its instances have more than %d different schemas", maxVerdicts)

// verdict is what was found of a schema.
type verdict struct {
	// pending is whether that is still being found, and trouble why it takes so
	// long; waiting are told when either changes, one of each who asks.
	pending bool
	trouble error
	waiting map[*channel]func()
	// instance is the one that was last seen with the schema, and seen when.
	instance discovery.Instance
	seen     time.Time
	// err is nil of one that is compatible.
	err *SchemaError
}

func newDrift(bus *Bus, of connectionKey) *drift {
	life, end := context.WithCancel(context.Background())
	return &drift{
		bus: bus, api: of.api, service: of.service, life: life, end: end, verdicts: make(map[string]*verdict), ownDigests: make(map[string]string),
		named: sync.OnceValue(func() protoreflect.ServiceDescriptor {
			for _, named := range bus.contracts.Named(of.api) {
				return named.Descriptor
			}
			return nil
		}),
	}
}

// close ends what is being found and waits for it.
func (d *drift) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.end()
	d.judging.Wait()
}

// accept is [resolver.Config]'s, for a channel. Without StrictSchema every
// instance of the called service is.
func (d *drift) accept(asker *channel, instance discovery.Instance, again func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.otherService(instance); err != nil {
		return err
	}
	if d.closed || instance.Schema == "" {
		return nil // of no schema: another program's, or too large to publish
	}
	now := time.Now()
	if now.Sub(d.accepted) > time.Second { // all instances are looked at together
		d.before = d.accepted
	}
	d.accepted = now
	found := d.verdicts[instance.Schema]
	if found == nil {
		found = d.begin(instance)
	}
	if found == nil {
		if d.bus.options.strict {
			return fmt.Errorf("API %q: option StrictSchema: the instance at %s is not called: %w", d.api, instance.Address, errManyVerdicts)
		}
		return nil
	}
	found.instance, found.seen = instance, now
	switch {
	case !d.bus.options.strict:
		return nil
	case found.pending:
		if found.waiting == nil {
			found.waiting = make(map[*channel]func())
		}
		found.waiting[asker] = again
		if found.trouble != nil {
			return fmt.Errorf("%w: option StrictSchema: its schema can't be read: %w", resolver.ErrPending, found.trouble)
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

// begin begins to find out about an instance's schema; d.mu is held. A program
// without the API's generated code has none that it could be compared with. The
// result is nil when too many are known already.
func (d *drift) begin(instance discovery.Instance) *verdict {
	own := d.own(instance)
	if own == nil {
		return &verdict{}
	}
	if d.ownDigest(own) == instance.Schema {
		return &verdict{} // as of most instances: there is nothing to keep
	}
	if !d.room() {
		return nil
	}
	found := &verdict{pending: true}
	d.verdicts[instance.Schema] = found
	d.judging.Go(func() { d.judge(own, instance.Schema) })
	return found
}

// ownDigest returns the digest of a service of the program's own; d.mu is held.
func (d *drift) ownDigest(own protoreflect.ServiceDescriptor) string {
	name := string(own.FullName())
	digest, ok := d.ownDigests[name]
	if !ok {
		digest, _ = schema.Digest(own) // "" is no instance's
		d.ownDigests[name] = digest
	}
	return digest
}

// room reports whether there is room for another verdict, once those are dropped
// whose schema no instance had for some time; d.mu is held.
func (d *drift) room() bool {
	for digest, found := range d.verdicts {
		if !found.pending && found.seen.Before(d.before.Add(-keepVerdict)) {
			delete(d.verdicts, digest)
		}
	}
	return len(d.verdicts) < maxVerdicts
}

// own gives the program's own descriptor of what an instance serves.
func (d *drift) own(instance discovery.Instance) protoreflect.ServiceDescriptor {
	if service := serviceNamed(instance.Service); service != nil {
		return service
	}
	return d.named()
}

// judge compares the schema of a digest with the program's own, once an instance
// gives it. It gives up after a few failures that nobody waited for, as without
// StrictSchema nobody does, or for an instance that is gone; the next instance
// with that digest has it begin anew.
func (d *drift) judge(own protoreflect.ServiceDescriptor, digest string) {
	const few = 5
	for failures, unasked := 1, 0; ; failures++ {
		d.mu.Lock()
		instance := d.verdicts[digest].instance
		d.mu.Unlock()
		served, err := d.bus.fetching.get(d.life, instance)
		if err == nil {
			d.decide(own, served, instance)
			return
		}
		if d.life.Err() != nil {
			return
		}
		level := slog.LevelDebug
		if failures == 1 && d.bus.options.strict {
			level = slog.LevelWarn
		}
		d.bus.options.log.Log(d.life, level, "cannot read the schema of an instance; trying again", "api", d.api, "address", instance.Address, "error", err)
		unasked++
		if d.change(digest, func(found *verdict) { found.trouble = err }) {
			unasked = 0
		}
		if unasked >= few && d.abandon(digest) {
			return
		}
		if fetchBackoff.Wait(d.life, failures) != nil {
			return
		}
	}
}

// abandon drops the verdict on a schema, unless somebody waits for it now.
func (d *drift) abandon(digest string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.verdicts[digest].waiting) > 0 {
		return false
	}
	delete(d.verdicts, digest)
	return true
}

// decide keeps the verdict on a schema and tells of an incompatible one, once.
func (d *drift) decide(own protoreflect.ServiceDescriptor, served *schema.Schema, instance discovery.Instance) {
	var fault *SchemaError
	for _, difference := range schema.Compare(d.api, own, served.Service) {
		if fault == nil {
			fault = &SchemaError{API: d.api, Address: instance.Address, Version: instance.Version}
		}
		fault.Differences = append(fault.Differences, difference.String())
	}
	if fault != nil {
		d.bus.incompatible.Add(1)
		d.bus.options.log.Warn("an instance has a schema that is incompatible with this program's", "api", d.api, "address", instance.Address,
			"version", quote.Line(instance.Version, quote.TextLimit), "refused", d.bus.options.strict, "differences", fault.shown())
	}
	// Only now may calls meet it.
	d.change(instance.Schema, func(found *verdict) { found.pending, found.err = false, fault })
}

// change changes the verdict on a schema and tells who waits for that; awaited is
// whether anybody did. Who still has to wait asks again.
func (d *drift) change(digest string, to func(*verdict)) (awaited bool) {
	d.mu.Lock()
	found := d.verdicts[digest]
	waiting := found.waiting
	found.waiting = nil
	to(found)
	d.mu.Unlock()
	for _, again := range waiting {
		again()
	}
	return len(waiting) > 0
}

// IncompatibleSchemas gives how many schemas of instances were found that are
// incompatible with the program's own, each counted once. The log says how they
// differ.
func (b *Bus) IncompatibleSchemas() uint64 { return b.incompatible.Load() }

// StrictSchema has a program keep to its schemas. A bus does not call instances
// whose schema is incompatible with the one that it was built with, by a
// *[SchemaError]; without the option it logs the difference once and calls them.
// A service refuses requests with fields that its schema does not know, by
// INVALID_ARGUMENT; without the option it passes them over.
func StrictSchema() Option {
	return bothOption{
		serveOption: func(o *serveOptions) error {
			o.strict = true
			return nil
		},
		busOption: func(o *busOptions) error {
			o.strict = true
			return nil
		},
	}
}
