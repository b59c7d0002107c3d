package atmostonce

import (
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/onecall-dev/onecall/discovery"
)

// PolicyName is the name of the load-balancing policy that binds calls, in
// gRPC's service config:
//
//	{"onecall_at_most_once": {"childPolicy": [{"round_robin": {}}]}}
const PolicyName = "onecall_at_most_once"

// NewPolicy returns the builder of the policy, for balancer.Register. The
// policy picks as its child does, which may be any that grpc-go knows, and
// binds each call that has a [Record] to the instance that was picked.
// incarnationOf reads the incarnation off an address; zero is an instance that
// knows nothing of identities. observerOf gives who is told of the state of the
// connection to an address, nil for nobody.
func NewPolicy(incarnationOf func(resolver.Address) discovery.Incarnation, observerOf func(resolver.Address) func(connectivity.State)) balancer.Builder {
	return policyBuilder{incarnationOf: incarnationOf, observerOf: observerOf}
}

type policyBuilder struct {
	incarnationOf func(resolver.Address) discovery.Incarnation
	observerOf    func(resolver.Address) func(connectivity.State)
}

// policyConfig is the parsed configuration.
type policyConfig struct {
	serviceconfig.LoadBalancingConfig

	child  balancer.Builder
	config serviceconfig.LoadBalancingConfig
}

// Name implements [balancer.Builder].
func (policyBuilder) Name() string { return PolicyName }

// ParseConfig implements [balancer.ConfigParser]: the first child policy that
// grpc-go knows is used, as in service config itself.
func (policyBuilder) ParseConfig(data json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	var parsed struct {
		ChildPolicy []map[string]json.RawMessage `json:"childPolicy"`
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
			out := &policyConfig{child: child}
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
func (b policyBuilder) Build(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	return &policy{ClientConn: conn, policyBuilder: b, options: options}
}

// policy is both what grpc-go takes for a balancer and what the child takes for
// a connection. grpc-go calls it from one goroutine at a time.
type policy struct {
	balancer.ClientConn // the real one; methods of the child's view are overridden below

	policyBuilder

	options balancer.BuildOptions

	child     balancer.Balancer
	childName string
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(state balancer.ClientConnState) error {
	config, ok := state.BalancerConfig.(*policyConfig)
	if !ok {
		return balancer.ErrBadResolverState
	}
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

// UpdateSubConnState implements [balancer.Balancer]; grpc-go calls it no more.
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
}

// NewSubConn implements [balancer.ClientConn] for the child.
func (p *policy) NewSubConn(addresses []resolver.Address, options balancer.NewSubConnOptions) (balancer.SubConn, error) {
	if len(addresses) > 0 {
		if observe, told := p.observerOf(addresses[0]), options.StateListener; observe != nil && told != nil {
			options.StateListener = func(state balancer.SubConnState) {
				observe(state.ConnectivityState)
				told(state)
			}
		}
	}
	conn, err := p.ClientConn.NewSubConn(addresses, options) //nolint:staticcheck // there is no other way yet: grpc-go's own policies call it
	if err != nil {
		return nil, err
	}
	bound := &boundSubConn{SubConn: conn}
	if len(addresses) > 0 {
		bound.incarnation, bound.observe = p.incarnationOf(addresses[0]), p.observerOf(addresses[0])
	}
	return bound, nil
}

// RemoveSubConn implements [balancer.ClientConn] for the child.
func (p *policy) RemoveSubConn(conn balancer.SubConn) { conn.Shutdown() }

// UpdateAddresses implements [balancer.ClientConn] for the child. A connection
// keeps the incarnation that it was made for; a child that moves one to another
// address is told that it cannot.
func (p *policy) UpdateAddresses(balancer.SubConn, []resolver.Address) {}

// UpdateState implements [balancer.ClientConn] for the child.
func (p *policy) UpdateState(state balancer.State) {
	state.Picker = &binding{child: state.Picker}
	p.ClientConn.UpdateState(state)
}

// boundSubConn is a connection to one incarnation.
type boundSubConn struct {
	balancer.SubConn

	incarnation discovery.Incarnation
	observe     func(connectivity.State) // nil when nobody is told
}

// RegisterHealthListener implements [balancer.SubConn]. That an instance says that
// it does not serve is as good as no connection to it.
func (c *boundSubConn) RegisterHealthListener(listener func(balancer.SubConnState)) {
	if c.observe == nil || listener == nil {
		c.SubConn.RegisterHealthListener(listener)
		return
	}
	c.SubConn.RegisterHealthListener(func(state balancer.SubConnState) {
		if s := state.ConnectivityState; s == connectivity.Ready || s == connectivity.TransientFailure {
			c.observe(s)
		}
		listener(state)
	})
}

// binding picks as the child does and binds what it picked.
type binding struct{ child balancer.Picker }

// Pick implements [balancer.Picker].
func (b *binding) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	record := recordOf(info.Ctx)
	if record != nil && !record.mayBind() {
		return balancer.PickResult{}, errLeft
	}
	result, err := b.child.Pick(info)
	if err != nil {
		return result, err
	}
	bound, ok := result.SubConn.(*boundSubConn)
	if !ok {
		return result, nil
	}
	result.SubConn = bound.SubConn
	if record == nil {
		return result, nil
	}
	identity, err := record.bind(bound.incarnation, result.Done)
	if err != nil {
		if result.Done != nil {
			result.Done(balancer.DoneInfo{})
		}
		return balancer.PickResult{}, err
	}
	result.Done = record.done
	if result.Metadata == nil {
		result.Metadata = identity
	} else if identity != nil {
		result.Metadata = metadata.Join(result.Metadata, identity)
	}
	return result, nil
}

// failing is the picker of a connection that never had a list of instances.
type failing struct{ err error }

// Pick implements [balancer.Picker].
func (f failing) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, f.err
}
