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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
)

// PolicyName is the name of the load-balancing policy that binds calls, in
// gRPC's service config:
//
//	{"onecall_at_most_once": {"childPolicy": [{"round_robin": {}}], "channel": 1234}}
//
// channel is [Channel.ID].
const PolicyName = "onecall_at_most_once"

// Observer is told of one connection to an address. Its methods are called from
// any goroutine, and under locks of grpc-go's: they are quick and call nothing of
// grpc-go's.
type Observer interface {
	// Observe is called with each state of the connection. READY means that the
	// instance can be called; TRANSIENT_FAILURE, with the reason, that it could not
	// be connected to or says that it does not serve.
	Observe(state balancer.SubConnState)
	// Silent is called when nothing is answered on the connection any more, so that
	// there should be another.
	Silent()
	// Refused is called with the error of a call that the instance refused, when
	// it has refused several in a row.
	Refused(err error)
}

// NewPolicy returns the builder of the policy, for balancer.Register. The
// policy picks as its child does, which may be any that grpc-go knows, and
// binds each call to the instance that was picked; a call without the [Attempt]
// that it began with is not sent.
//
// Which instance that is, it is told at the other end of each connection, by the
// header [atmostonce.IncarnationKey] of the health service, before it uses the connection.
// incarnationOf reads the incarnation that the registry knows off an address, for
// servers that do not say so; zero is an instance that knows nothing of
// identities. An instance whose health service says that the whole server does
// not serve is not picked. observerOf returns the observer of a new connection to
// an address. It is nil for an address that is not as the bus's resolver made it:
// no call is sent there unless the instance says who it is.
func NewPolicy(incarnationOf func(resolver.Address) discovery.Incarnation, observerOf func(resolver.Address) Observer) balancer.Builder {
	return policyBuilder{incarnationOf: incarnationOf, observerOf: observerOf}
}

type policyBuilder struct {
	incarnationOf func(resolver.Address) discovery.Incarnation
	observerOf    func(resolver.Address) Observer
}

// policyConfig is the parsed configuration.
type policyConfig struct {
	serviceconfig.LoadBalancingConfig

	child   balancer.Builder
	config  serviceconfig.LoadBalancingConfig
	channel uint64
}

// Name implements [balancer.Builder].
func (policyBuilder) Name() string { return PolicyName }

// ParseConfig implements [balancer.ConfigParser]: the first child policy that
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
func (b policyBuilder) Build(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	life, end := context.WithCancel(context.Background())
	p := &policy{ClientConn: conn, policyBuilder: b, options: options, life: life, end: end, conns: make(map[*boundSubConn]struct{})}
	p.running.Go(p.keep)
	return p
}

// policy is both what grpc-go takes for a balancer and what the child takes for
// a connection. grpc-go calls it from one goroutine at a time.
type policy struct {
	balancer.ClientConn // the real one; methods of the child's view are overridden below

	policyBuilder

	options balancer.BuildOptions

	child     balancer.Balancer
	childName string
	channel   uint64 // the ID of the only one whose calls are bound

	// life ends with the policy, and running are its goroutines.
	life    context.Context //nolint:containedctx // it is a running thing
	end     context.CancelFunc
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
	p.end()
	p.running.Wait()
	for _, conn := range p.connections() {
		conn.penalty.release()
		p.forget(conn)
	}
}

// keep looks after the connections: see [watch].keep.
func (p *policy) keep() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.life.Done():
			return
		case <-ticker.C:
		}
		for _, conn := range p.connections() {
			conn.mu.Lock()
			present := conn.watch
			conn.mu.Unlock()
			if present != nil && conn.incarnation.Load() != nil {
				p.running.Go(present.keep)
			}
		}
	}
}

// connections returns all connections.
func (p *policy) connections() []*boundSubConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.conns))
}

// forget drops a connection that has ended.
func (p *policy) forget(conn *boundSubConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

// having returns a connection, at random, whose instance serves and is not known
// to lack a method; nil when there is none.
func (p *policy) having(method string) *boundSubConn {
	all := p.connections() // in random order
	if n := slices.IndexFunc(all, func(c *boundSubConn) bool { return !c.lacks(method) && c.usable() }); n >= 0 {
		return all[n]
	}
	return nil
}

// NewSubConn implements [balancer.ClientConn] for the child.
func (p *policy) NewSubConn(addresses []resolver.Address, options balancer.NewSubConnOptions) (balancer.SubConn, error) {
	bound := &boundSubConn{policy: p, listener: options.StateListener}
	if len(addresses) > 0 {
		bound.address, bound.registered, bound.observer = addresses[0].Addr, p.incarnationOf(addresses[0]), p.observerOf(addresses[0])
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

// UpdateAddresses implements [balancer.ClientConn] for the child. A connection
// keeps the incarnation that it was made for; a child that moves one to another
// address is told that it cannot.
func (p *policy) UpdateAddresses(balancer.SubConn, []resolver.Address) {}

// UpdateState implements [balancer.ClientConn] for the child.
func (p *policy) UpdateState(state balancer.State) {
	state.Picker = &binding{policy: p, child: state.Picker, channel: p.channel}
	p.ClientConn.UpdateState(state)
}

// binding picks as the child does and binds what it picked.
type binding struct {
	policy  *policy
	child   balancer.Picker
	channel uint64
}

// Pick implements [balancer.Picker].
func (b *binding) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	attempt := attemptOf(info.Ctx)
	if err := attempt.check(b.channel, info.FullMethodName); err != nil {
		return balancer.PickResult{}, err
	}
	result, err := b.child.Pick(info)
	if err != nil {
		return result, err
	}
	bound, ok := result.SubConn.(*boundSubConn)
	if !ok {
		giveBack(result)
		return balancer.PickResult{}, errUnbound
	}
	if bound.lacks(info.FullMethodName) {
		bound, result = b.pickOther(info, bound, result)
	}
	result.SubConn = bound.SubConn
	incarnation := bound.incarnation.Load()
	if incarnation == nil { // the connection has just ended, and there is another picker soon
		giveBack(result)
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	if incarnation.IsZero() && bound.observer == nil {
		giveBack(result)
		return balancer.PickResult{}, stripped(bound.address)
	}
	identity, err := attempt.bind(bound, *incarnation, result.Done)
	if err != nil {
		giveBack(result)
		return balancer.PickResult{}, err
	}
	if incarnation.IsZero() {
		attempt.channel.noteAnonymous(bound.address)
	}
	result.Done = attempt.done
	if result.Metadata == nil {
		result.Metadata = identity
	} else if identity != nil {
		result.Metadata = metadata.Join(result.Metadata, identity)
	}
	return result, nil
}

// redraws is how often the child picks again, when what it picked lacks the
// called method. What it picked before counts as under way meanwhile, so that a
// child that counts picks another one.
const redraws = 4

// pickOther picks another connection than one whose instance lacks the called
// method: one that the child picks, else any, else that one all the same, whose
// instance then says so.
func (b *binding) pickOther(info balancer.PickInfo, first *boundSubConn, firstResult balancer.PickResult) (*boundSubConn, balancer.PickResult) {
	var spurned []balancer.PickResult
	defer func() {
		for _, result := range spurned {
			giveBack(result)
		}
	}()
	for range redraws {
		result, err := b.child.Pick(info)
		if err != nil {
			break
		}
		bound, ok := result.SubConn.(*boundSubConn)
		if ok && !bound.lacks(info.FullMethodName) {
			giveBack(firstResult)
			return bound, result
		}
		spurned = append(spurned, result)
	}
	if other := b.policy.having(info.FullMethodName); other != nil {
		giveBack(firstResult)
		return other, balancer.PickResult{}
	}
	return first, firstResult
}

// giveBack ends a pick that sends no call.
func giveBack(result balancer.PickResult) {
	if result.Done != nil {
		result.Done(balancer.DoneInfo{})
	}
}

// errUnbound ends a call for which the child policy picked a connection that it
// did not make through the policy.
var errUnbound = status.Error(codes.Internal, "the call is not sent, because it could run more than once: the balancing policy picked a connection whose instance is not known")

// stripped is the error of a call to an address that lost its attributes, whose
// instance does not say who it is.
func stripped(address string) error {
	return status.Errorf(codes.Internal, "the call is not sent to %s, because it could run more than once: something between the bus's resolver and its connections, "+
		"such as a proxy of the environment, replaced the instance's address, and with it the instance's incarnation", address)
}

// failing is the picker of a connection that never had a list of instances.
type failing struct{ err error }

// Pick implements [balancer.Picker].
func (f failing) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, f.err
}
