package client

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/onecall-dev/onecall/discovery"
)

// PolicyName is the name of the load-balancing policy that binds calls, in
// gRPC's service config:
//
//	{"onecall_at_most_once": {"childPolicy": [{"round_robin": {}}], "channel": 1234}}
//
// channel is [Channel.ID]. The child, which may be any policy that grpc-go knows,
// picks a connection, and the policy binds the call to the instance at its end. A
// call without the [Attempt] that it began with is not sent.
//
// The instance names itself at the other end of each connection, in the header
// [atmostonce.IncarnationKey] of the health service, before the connection is used.
// For servers that do not, the incarnation of [WithInstance] counts; zero is a
// server that knows nothing of identities. An instance whose health service says
// that the whole server does not serve is not picked.
const PolicyName = "onecall_at_most_once"

// grpc-go finds policies by name, and registers them only before it is used.
func init() { //nolint:gochecknoinits // see balancer.Register
	balancer.Register(policyBuilder{})
}

// Observer is notified of the connections to an instance. Its methods are called
// from any goroutine, and under locks of grpc-go's: they are quick and do not call
// grpc-go.
type Observer interface {
	// Observe is called with each state of a connection, which id distinguishes.
	// READY means that the instance can be called. TRANSIENT_FAILURE, with the
	// error, means that it could not be connected to, or that its health service says
	// that it does not serve or fails: then the error is an [UnhealthyError].
	Observe(id any, state balancer.SubConnState)
	// Silent is called when nothing is answered on the connection any more, so that
	// it should be replaced.
	Silent()
	// Refused is called with the error of a call that the instance refused, when
	// it has refused several in a row.
	Refused(err error)
}

// WithInstance returns the address of an instance with what the policy needs of it:
// the incarnation that the registry has for it, and its observer, which must be
// comparable. A resolver calls it for each of its addresses. To an address without
// it, calls are sent only if the instance names itself.
func WithInstance(address resolver.Address, incarnation discovery.Incarnation, observer Observer) resolver.Address {
	address.Attributes = address.Attributes.WithValue(instanceKey{}, instance{incarnation, observer, nil})
	return address
}

// WithInstance is [WithInstance] for an address of the channel's own connection.
func (c *Channel) WithInstance(address resolver.Address, incarnation discovery.Incarnation, observer Observer) resolver.Address {
	address.Attributes = address.Attributes.WithValue(instanceKey{}, instance{incarnation, observer, c})
	return address
}

type instanceKey struct{}

// instance is the attribute of an address by which the policy knows its instance.
type instance struct {
	incarnation discovery.Incarnation
	observer    Observer // nil if the address has no such attribute
	channel     *Channel // nil if it is not known
}

// policyBuilder builds the policy.
type policyBuilder struct{}

// policyConfig is the parsed configuration.
type policyConfig struct {
	serviceconfig.LoadBalancingConfig

	child   balancer.Builder
	config  serviceconfig.LoadBalancingConfig
	channel uint64
}

// Name implements [balancer.Builder].
func (policyBuilder) Name() string { return PolicyName }

// ParseConfig implements [balancer.ConfigParser]. The first child policy that
// grpc-go knows is used, as in service config itself.
func (policyBuilder) ParseConfig(data json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	var parsed struct {
		ChildPolicy []map[string]json.RawMessage `json:"childPolicy"`
		Channel     uint64                       `json:"channel"`
	}
	if err := json.Unmarshal(data, &parsed); err != nil {
		return nil, fmt.Errorf("%s: %w", PolicyName, err)
	}
	for _, candidate := range parsed.ChildPolicy {
		for name, config := range candidate {
			child := balancer.Get(name)
			if child == nil {
				continue
			}
			out := &policyConfig{child: child, channel: parsed.Channel}
			if parser, ok := child.(balancer.ConfigParser); ok {
				var err error
				if out.config, err = parser.ParseConfig(config); err != nil {
					return nil, fmt.Errorf("%s: child policy %s: %w", PolicyName, name, err)
				}
			}
			return out, nil
		}
	}
	return nil, fmt.Errorf("%s: childPolicy names no policy that is registered", PolicyName)
}

// Build implements [balancer.Builder].
func (policyBuilder) Build(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	ctx, cancel := context.WithCancel(context.Background())
	p := &policy{ClientConn: conn, options: options, ctx: ctx, cancel: cancel, conns: make(map[*boundSubConn]struct{})}
	p.running.Go(p.probe)
	return p
}

// policy is the balancer that grpc-go calls, and the ClientConn that the child
// calls. grpc-go calls it from one goroutine at a time.
//
// Locks are taken in this order: grpc-go's, a boundSubConn's, the policy's. No lock
// of ours is held while grpc-go, the child or an observer is called.
type policy struct {
	balancer.ClientConn // grpc-go's own; the methods below override those that the child calls

	options balancer.BuildOptions

	child     balancer.Balancer
	childName string
	channel   uint64 // the ID of the only one whose calls are bound

	// ctx ends with the policy, and running are its goroutines.
	ctx     context.Context //nolint:containedctx // it is a running thing
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex // guards the field below
	conns map[*boundSubConn]struct{}
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(state balancer.ClientConnState) error {
	config, ok := state.BalancerConfig.(*policyConfig)
	if !ok {
		return balancer.ErrBadResolverState
	}
	p.channel = config.channel
	if p.child != nil && p.childName != config.child.Name() {
		p.child.Close()
		p.child = nil
	}
	if p.child == nil {
		p.child, p.childName = config.child.Build(p, p.options), config.child.Name()
	}
	state.BalancerConfig = config.config
	return p.child.UpdateClientConnState(state)
}

// ResolverError implements [balancer.Balancer].
func (p *policy) ResolverError(err error) {
	if p.child != nil {
		p.child.ResolverError(err)
		return
	}
	p.ClientConn.UpdateState(balancer.State{
		ConnectivityState: connectivity.TransientFailure,
		Picker:            failing{err},
	})
}

// UpdateSubConnState implements [balancer.Balancer]. grpc-go no longer calls it.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements [balancer.ExitIdler].
func (p *policy) ExitIdle() {
	if p.child != nil {
		p.child.ExitIdle()
	}
}

// Close implements [balancer.Balancer].
func (p *policy) Close() {
	if p.child != nil {
		p.child.Close()
	}
	p.cancel()
	p.running.Wait()
	for _, conn := range p.connections() {
		conn.penalty.release()
		conn.unlink() // grpc-go reports no states any more
		p.remove(conn)
	}
}

// probe probes the connections from time to time, until the policy ends.
func (p *policy) probe() {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-ticker.C:
		}
		for _, conn := range p.connections() {
			if watch := conn.readyWatch(); watch != nil {
				p.running.Go(watch.probe)
			}
		}
	}
}

// connections returns all connections, in random order.
func (p *policy) connections() []*boundSubConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.conns))
}

// remove removes a connection that has ended.
func (p *policy) remove(conn *boundSubConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

// having returns a random connection whose instance serves and is not known to
// lack a method; nil if there is none.
func (p *policy) having(method string) *boundSubConn {
	all := p.connections()
	if n := slices.IndexFunc(all, func(c *boundSubConn) bool { return !c.lacks(method) && c.usable() }); n >= 0 {
		return all[n]
	}
	return nil
}

// NewSubConn implements [balancer.ClientConn] for the child.
func (p *policy) NewSubConn(addresses []resolver.Address, options balancer.NewSubConnOptions) (balancer.SubConn, error) {
	bound := &boundSubConn{policy: p, listener: options.StateListener}
	if len(addresses) > 0 {
		known, _ := addresses[0].Attributes.Value(instanceKey{}).(instance)
		bound.address, bound.registered, bound.observer = addresses[0].Addr, known.incarnation, known.observer
		if known.channel != nil && known.channel.Links {
			bound.channel = known.channel
		}
	}
	options.StateListener = bound.changed
	conn, err := p.ClientConn.NewSubConn(addresses, options) //nolint:staticcheck // there is no other way yet: grpc-go's own policies call it
	if err != nil {
		return nil, err
	}
	bound.SubConn = conn
	p.mu.Lock()
	p.conns[bound] = struct{}{}
	p.mu.Unlock()
	return bound, nil
}

// RemoveSubConn implements [balancer.ClientConn] for the child.
func (p *policy) RemoveSubConn(conn balancer.SubConn) { conn.Shutdown() }

// UpdateAddresses implements [balancer.ClientConn] for the child. It does nothing: a
// connection keeps the instance that it was made for.
func (p *policy) UpdateAddresses(balancer.SubConn, []resolver.Address) {}

// UpdateState implements [balancer.ClientConn] for the child.
func (p *policy) UpdateState(state balancer.State) {
	state.Picker = &binding{policy: p, child: state.Picker, channel: p.channel}
	p.ClientConn.UpdateState(state)
}

// failing is the picker of a policy that never had a list of instances.
type failing struct{ err error }

// Pick implements [balancer.Picker].
func (f failing) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, f.err
}
