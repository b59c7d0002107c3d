package client

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/schemas"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// api is the state of one API in a bus. Its watch notifies the resolvers of its
// channels. The checks of schemas and the calls by name use the same watch.
//
// If a goroutine holds two locks, it takes them in this order:
//
//	Bus.mu → schemas.Published.mu or outage.mu
//	the resolver's lock → serviceClient.mu or outage.mu → schemas.Checker.mu
//	watch.mu → the lock of a notify.Observer
type api struct {
	bus     *Bus
	name    string
	watch   *watch
	checker *schemas.Checker
	schemas schemas.Published
	// lines are the log lines about instances, which all channels share.
	lines resolver.Lines
	// anonymous says that the bus has logged that calls carry no identity.
	anonymous atomic.Bool
	// shed limits how many calls that were shed are retried. If all instances shed, the
	// retries would be most of what they do.
	shed throttle
	// calls, failed and retries are counters: see [APIStats].
	calls, failed, retries atomic.Uint64

	// Bus.mu guards the fields below.

	// users counts the calls that have acquired the API.
	users int
	// clients are the connections, by the full proto name of the service.
	clients map[string]*serviceClient
}

func newAPI(bus *Bus, name string) *api {
	made := &api{
		bus: bus, name: name, watch: newWatch(bus.registry, name),
		clients: make(map[string]*serviceClient),
		checker: schemas.NewChecker(schemas.CheckerConfig{
			API: name, Contracts: bus.contracts, Fetcher: bus.fetcher, Log: bus.options.Log,
			Strict: bus.options.StrictSchema, Incompatible: &bus.incompatible,
		}),
	}
	made.shed.start()
	return made
}

// acquire returns the API of a name. The caller must call release. If the bus is
// closed, acquire returns an error with the name what.
func (b *Bus) acquire(name, what string) (*api, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil, callerr.Closed(what)
	}
	found, ok := b.apis[name]
	if !ok {
		found = newAPI(b, name)
		b.apis[name] = found
	}
	found.users++
	return found, nil
}

// release ends the use of an API that acquire returned. The last release removes the
// API if it has no connections and no schema was read. So names from outside cannot
// grow the map.
func (b *Bus) release(a *api) {
	b.mu.Lock()
	a.users--
	forget := a.users == 0 && len(a.clients) == 0 && a.schemas.Empty() && b.apis[a.name] == a
	if forget {
		delete(b.apis, a.name)
	}
	b.mu.Unlock()
	if forget {
		_ = a.close() // it has no connection, so no error
	}
}

// connect returns the connections to a service of an API, and makes them if there
// are none. "" means the service of any instance. If the bus is closed, connect
// returns an error with the name what.
func (b *Bus) connect(name, service, what string) (*serviceClient, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil, callerr.Closed(what)
	}
	of, ok := b.apis[name]
	if !ok {
		of = newAPI(b, name)
	}
	if found, ok := of.clients[service]; ok {
		return found, nil
	}
	added, err := newServiceClient(of, service)
	if err != nil {
		return nil, err
	}
	of.clients[service] = added
	b.apis[name] = of
	return added, nil
}

// clientsOf returns the existing connections to the services of an API.
func (b *Bus) clientsOf(name string) []*serviceClient {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []*serviceClient
	if of, ok := b.apis[name]; ok {
		for _, client := range of.clients {
			found = append(found, client)
		}
	}
	return found
}

// close ends the connections and the watch. The caller must not hold Bus.mu, because
// close waits for goroutines which may be in the program's logger, and that may call
// the bus.
func (a *api) close() error {
	var errs []error
	for _, client := range a.clients {
		errs = append(errs, client.close())
	}
	a.watch.close()
	a.checker.Close()
	return errors.Join(errs...)
}

// everServed returns nil if an API that is not linked into the program has a connection
// or is known to the registry, and an error otherwise. It keeps no state. rpc is the
// called RPC, and opts are the options of the call.
func (b *Bus) everServed(ctx context.Context, name, rpc string, opts []grpc.CallOption) error {
	if len(b.clientsOf(name)) > 0 {
		return nil
	}
	call, err := timeout.Begin(timeout.Declared(0, 0), opts)
	if err != nil {
		return failure{rpc: rpc, outcome: atmostonce.NotSent, err: err}.asError()
	}
	of, err := b.acquire(name, rpc)
	if err != nil {
		return err
	}
	defer b.release(of)
	limited, cancel := b.limit(ctx, call)
	defer cancel()
	snapshot, err := of.watch.wait(limited, func(s discovery.Snapshot) bool {
		return known(s) || !waitsForReady(opts)
	})
	if err == nil && !known(snapshot) {
		err = snapshot.Err()
	}
	if err != nil {
		return b.schemaError(ctx, limited, rpc, err)
	}
	return nil
}

// known reports whether the registry knows an API.
func known(s discovery.Snapshot) bool {
	err := s.Err()
	_, unknown := errors.AsType[*discovery.UnknownAPIError](err)
	_, unreachable := errors.AsType[*discovery.UnreachableError](err)
	return !unknown && !unreachable
}

// waitsForReady reports whether a call waits until there is an instance.
func waitsForReady(opts []grpc.CallOption) (waits bool) {
	for _, opt := range opts {
		if failFast, ok := opt.(grpc.FailFastCallOption); ok {
			waits = !failFast.FailFast
		}
	}
	return waits
}

// limit returns the context of a call that waits for the registry. It ends when the
// call's timeout has passed, ctx ends or the bus is closed.
func (b *Bus) limit(ctx context.Context, call timeout.Call) (context.Context, context.CancelFunc) {
	limited, cancel := call.Context(ctx)
	stop := context.AfterFunc(b.fetcher.Life(), cancel)
	return limited, func() {
		stop()
		cancel()
	}
}

// linkedServices returns the services of an API that are linked into the program,
// by their full proto names.
func (b *Bus) linkedServices(name string) []string {
	var names []string
	for _, service := range b.contracts.Named(name) {
		names = append(names, service.API.Service)
	}
	if len(names) == 0 && b.contracts.Service(name) != nil { // name is the full proto name
		names = append(names, name)
	}
	return names
}

// reach returns the connections to the services of an API that are linked into the
// program. If none are linked in, it returns the connections that exist. If there are
// none, it waits for instances and connects to the services that they serve.
func (b *Bus) reach(ctx context.Context, name string) ([]*serviceClient, error) {
	services := b.linkedServices(name)
	if len(services) == 0 {
		if found := b.clientsOf(name); len(found) > 0 {
			return found, nil
		}
		var err error
		if services, err = b.servedServices(ctx, name); err != nil {
			return nil, err
		}
	}
	clients := make([]*serviceClient, 0, len(services))
	for _, service := range services {
		client, err := b.connect(name, service, name)
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	return clients, nil
}

// servedServices waits until an API has an instance, and returns the services that its
// instances serve. If ctx ends or the bus is closed first, its error is the reason why
// there is no instance.
func (b *Bus) servedServices(ctx context.Context, name string) ([]string, error) {
	of, err := b.acquire(name, name)
	if err != nil {
		return nil, err
	}
	defer b.release(of)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.fetcher.Life(), cancel)()
	snapshot, err := of.watch.wait(ctx, func(s discovery.Snapshot) bool { return s.Err() == nil })
	if err != nil {
		return nil, err
	}
	var services []string
	for _, instance := range snapshot.Instances {
		if instance.State != discovery.Draining && !slices.Contains(services, instance.Service) {
			services = append(services, instance.Service)
		}
	}
	return services, nil
}
