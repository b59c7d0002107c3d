// Package resolver gives grpc-go the instances that a discovery.Registry knows.
//
// It does no I/O and starts no goroutine: the registry's watch calls it. So
// Build, which grpc-go runs inside a call before it looks at the deadline, and
// Close return at once in every state of the registry.
package resolver

import (
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
)

// Scheme is the scheme of targets: "onecall:///auth".
const Scheme = "onecall"

// Target gives the target that the builder resolves to an API's instances.
func Target(api string) string { return Scheme + ":///" + api }

// Builder builds resolvers for connections to APIs. Its methods are safe for
// all goroutines.
type Builder struct {
	registry discovery.Registry
	observe  func(*discovery.Snapshot)
}

var _ resolver.Builder = (*Builder)(nil)

// NewBuilder returns a builder that asks registry.
//
// When observe is not nil it is told what a connection knows: nil while it
// knows nothing, which is from Build on and again after Close, else the last
// snapshot. It is told before the connection is, so that a call that fails
// finds the reason; but that the last instance is gone it is told after, so
// that no new call goes to one then. It is quick and calls neither.
func NewBuilder(registry discovery.Registry, observe func(*discovery.Snapshot)) *Builder {
	if observe == nil {
		observe = func(*discovery.Snapshot) {}
	}
	return &Builder{registry: registry, observe: observe}
}

// Scheme implements [resolver.Builder].
func (b *Builder) Scheme() string { return Scheme }

// Build implements [resolver.Builder]. It never fails.
func (b *Builder) Build(target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	b.observe(nil)
	serving := false // whether the connection has an instance
	stop := b.registry.Watch(target.Endpoint(), func(snapshot discovery.Snapshot) {
		had := serving
		serving = snapshot.Err() == nil
		if had && !serving {
			update(conn, snapshot)
			b.observe(&snapshot)
			return
		}
		b.observe(&snapshot)
		update(conn, snapshot)
	})
	return &watched{stop: stop, observe: b.observe}, nil
}

// update tells a connection of a snapshot. Instances that drain are left out;
// without any other the connection learns why there is none, and keeps what it
// has if it is only the registry that can't be reached.
func update(conn resolver.ClientConn, snapshot discovery.Snapshot) {
	if err := snapshot.Err(); err != nil && snapshot.Unreachable != nil {
		conn.ReportError(err)
		return
	}
	state := resolver.State{Endpoints: make([]resolver.Endpoint, 0, len(snapshot.Instances))}
	for _, instance := range snapshot.Instances {
		if instance.State == discovery.Draining {
			continue
		}
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{
			Addresses:  []resolver.Address{address(instance)},
			Attributes: attributes.New(instanceKey{}, instance),
		})
	}
	// The error says that the balancer has no endpoint. There is nothing to
	// resolve anew for it: the watch goes on.
	_ = conn.UpdateState(state)
}

// address gives the address of an instance. Its incarnation is part of what
// makes it one: who took over an address is another, with a connection of its
// own.
func address(instance discovery.Instance) resolver.Address {
	out := resolver.Address{Addr: instance.Address}
	if !instance.Incarnation.IsZero() {
		out.Attributes = attributes.New(incarnationKey{}, instance.Incarnation)
	}
	return out
}

type incarnationKey struct{}

// IncarnationOf gives the incarnation at an address of this resolver; zero when
// there is none, and of other addresses.
func IncarnationOf(address resolver.Address) discovery.Incarnation {
	incarnation, _ := address.Attributes.Value(incarnationKey{}).(discovery.Incarnation)
	return incarnation
}

type instanceKey struct{}

// InstanceOf gives the instance that an endpoint of this resolver stands for.
func InstanceOf(endpoint resolver.Endpoint) (discovery.Instance, bool) {
	instance, ok := endpoint.Attributes.Value(instanceKey{}).(discovery.Instance)
	return instance, ok
}

type watched struct {
	stop    func()
	observe func(*discovery.Snapshot)
}

// ResolveNow implements [resolver.Resolver]: the watch is always up to date.
func (*watched) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver].
func (w *watched) Close() {
	w.stop()
	w.observe(nil)
}
