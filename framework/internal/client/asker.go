package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	grpcresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
)

// askers are the connections on which a bus asks instances what became of calls, one
// for each instance that is asked now. Its methods are safe for all goroutines.
type askers struct {
	bus *Bus

	// mu guards the fields below. Bus.mu may be taken under it.
	mu     sync.Mutex
	closed bool
	open   map[askerKey]*asker
}

// askerKey is what an asker is for. An instance that serves several APIs may have a
// certificate for each of their names.
type askerKey struct {
	api, address string
	incarnation  discovery.Incarnation
}

// asker is a connection to one instance, which does not end with the connections of
// its API: an instance that drains is not called any more, but may be asked.
type asker struct {
	*grpc.ClientConn

	key   askerKey
	api   *api
	calls *client.Channel
	users int // guarded by askers.mu

	// gone ends when the instance has ended, as far as can be known.
	gone context.Context //nolint:containedctx // it is a running thing
	end  context.CancelFunc

	mu sync.Mutex // guards the field below
	// refusedSince is when the first of the connections in a row was refused.
	refusedSince time.Time
}

var _ client.Observer = (*asker)(nil)

// refusedFor is how long connections to an address are refused until its instance
// counts as ended. A proxy may restart in that time.
const refusedFor = 250 * time.Millisecond

// askerBackoff replaces that of a bus, which begins with a second: a call waits for the
// connection.
var askerBackoff = backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}

// acquire returns the connection to an instance. The caller must call release. rpc is
// for the error of a bus that is closed.
func (a *askers) acquire(key askerKey, rpc string) (*asker, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, callerr.Closed(rpc)
	}
	found, ok := a.open[key]
	if !ok {
		var err error
		if found, err = a.dial(key, rpc); err != nil {
			return nil, err
		}
		a.open[key] = found
	}
	found.users++
	return found, nil
}

// release ends the use of a connection, and closes it after the last one.
func (a *askers) release(used *asker) {
	a.mu.Lock()
	used.users--
	last := used.users == 0
	if last && a.open[used.key] == used {
		delete(a.open, used.key)
	}
	a.mu.Unlock()
	if last {
		used.close()
	}
}

// close ends all connections.
func (a *askers) close() {
	a.mu.Lock()
	a.closed = true
	open := a.open
	a.open = nil
	a.mu.Unlock()
	for _, used := range open {
		_ = used.Close() // release closes the rest of it; a second Close does nothing
	}
}

// dial returns a new connection. It does no I/O.
func (a *askers) dial(key askerKey, rpc string) (*asker, error) {
	of, err := a.bus.acquire(key.api, rpc)
	if err != nil {
		return nil, err
	}
	of.watch.start()
	made := &asker{key: key, api: of, calls: a.bus.caller.NewChannel()}
	made.gone, made.end = context.WithCancel(context.Background())
	address := a.bus.options.dialer.AttachUsed(grpcresolver.Address{Addr: key.address}, key.incarnation)
	// The instance must name itself: the registry may be late.
	address = client.WithInstance(address, discovery.Incarnation{}, made)
	resolvers := manual.NewBuilderWithScheme(resolver.Scheme)
	resolvers.InitialState(grpcresolver.State{Endpoints: []grpcresolver.Endpoint{{Addresses: []grpcresolver.Address{address}}}})
	read := a.bus.options
	read.Balancing = map[string]json.RawMessage{pickfirst.Name: json.RawMessage("{}")} // it ignores health, which a draining instance does not have
	options, err := dialOptions(read, made.calls, nil, grpc.WithResolvers(resolvers))
	if err == nil {
		made.ClientConn, err = grpc.NewClient(resolver.Target(key.api), append(options, grpc.WithConnectParams(grpc.ConnectParams{Backoff: askerBackoff, MinConnectTimeout: read.Limits.Handshake}))...)
	}
	if err != nil {
		made.end()
		a.bus.release(of)
		return nil, fmt.Errorf("%s: cannot make a connection: %w", rpc, err)
	}
	return made, nil
}

// close ends the connection.
func (a *asker) close() {
	_ = a.Close() // it may be closed already
	a.end()
	a.api.bus.release(a.api)
}

// Observe implements [client.Observer]. It ends gone if the instance cannot be
// connected to, and the registry does not have it or nothing listens at its address.
func (a *asker) Observe(_ any, state balancer.SubConnState) {
	switch state.ConnectivityState {
	case connectivity.TransientFailure:
		if _, answers := errors.AsType[*client.UnhealthyError](state.ConnectionError); answers {
			return // as an instance does that drains
		}
		refused := a.refused(errors.Is(state.ConnectionError, syscall.ECONNREFUSED), time.Now())
		if refused >= refusedFor || !a.listed() {
			a.end()
		}
	case connectivity.Ready:
		a.refused(false, time.Time{})
	case connectivity.Idle, connectivity.Connecting, connectivity.Shutdown:
	}
}

// refused records whether a connection was refused, and returns for how long
// connections have been.
func (a *asker) refused(refused bool, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !refused:
		a.refusedSince = time.Time{}
		return 0
	case a.refusedSince.IsZero():
		a.refusedSince = now
	}
	return now.Sub(a.refusedSince)
}

// listed reports whether the registry may have the instance. Its last known list
// counts while it cannot be read.
func (a *asker) listed() bool {
	latest := a.api.watch.latest.Load()
	if latest == nil {
		return true
	}
	return slices.ContainsFunc(latest.List, func(instance *discovery.Instance) bool {
		return instance.Incarnation == a.key.incarnation
	})
}

// Silent implements [client.Observer]. A question that has no answer ends with its
// context.
func (*asker) Silent() {}

// Refused implements [client.Observer].
func (*asker) Refused(error) {}
