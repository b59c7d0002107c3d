// Package leastrequest has the load-balancing policy that sends a call to the instance
// with the fewest calls in flight (gRFC A48).
//
// It differs from grpc-go's least_request_experimental in what a pick costs and compares.
// That one draws instances with replacement, so it can miss the better one of two, and
// copies each drawn one to the heap. This one compares all instances if there are at most
// [Choices], else that many neighbors in random order, and allocates nothing.
package leastrequest

import (
	"math/rand/v2"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

const (
	// Name is the name of the policy in gRPC's service config. It has no configuration.
	Name = "onecall_least_request"
	// Choices is how many instances a pick compares at most.
	Choices = 10
)

// grpc-go finds policies by name, and registers them only before it is used.
func init() { //nolint:gochecknoinits // see balancer.Register
	balancer.Register(builder{})
}

// builder builds the policy.
type builder struct{}

// Name implements [balancer.Builder].
func (builder) Name() string { return Name }

// Build implements [balancer.Builder].
func (builder) Build(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	p := &policy{ClientConn: conn}
	p.Balancer = endpointsharding.NewBalancer(p, options, newInstance, endpointsharding.Options{})
	return p
}

// policy is the balancer that grpc-go calls: a balancer that connects to all instances,
// whose picker it replaces.
type policy struct {
	balancer.Balancer
	balancer.ClientConn // grpc-go's own, of which UpdateState is overridden for the balancer
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(state balancer.ClientConnState) error {
	return p.Balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: pickfirst.EnableHealthListener(state.ResolverState)})
}

// UpdateState implements [balancer.ClientConn].
func (p *policy) UpdateState(state balancer.State) {
	children := endpointsharding.ChildStatesFromPicker(state.Picker)
	ready := make(picker, 0, len(children))
	for _, child := range children {
		if choice, ok := child.State.Picker.(*choice); ok {
			ready = append(ready, *choice)
		}
	}
	if len(ready) > 0 {
		state = balancer.State{ConnectivityState: connectivity.Ready, Picker: ready}
	}
	p.ClientConn.UpdateState(state)
}

// instance is the balancer of one instance: pick_first, and the count of its calls. It lasts
// while the instance is in the list.
type instance struct {
	balancer.Balancer
	balancer.ClientConn // of which UpdateState is overridden for pick_first

	inFlight atomic.Int64
	// done is called with the end of a call.
	done func(balancer.DoneInfo)

	// ready says that the instance is READY.
	ready atomic.Bool
	// addresses are those of the latest update.
	addresses []resolver.Address
}

func newInstance(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	i := &instance{ClientConn: conn}
	i.done = func(balancer.DoneInfo) { i.inFlight.Add(-1) }
	i.Balancer = balancer.Get(pickfirst.Name).Build(i, options)
	return i
}

// UpdateClientConnState implements [balancer.Balancer]. At each change of the list it is
// called for all instances. If an instance is READY, pick_first does nothing with the same
// addresses, but that costs it time and memory. A resolver does not change a slice that it
// has passed on, so the same slice has the same addresses.
func (i *instance) UpdateClientConnState(state balancer.ClientConnState) error {
	addresses := state.ResolverState.Endpoints[0].Addresses
	same := len(addresses) > 0 && len(addresses) == len(i.addresses) && &addresses[0] == &i.addresses[0]
	if same && i.ready.Load() {
		return nil
	}
	i.addresses = addresses
	return i.Balancer.UpdateClientConnState(state)
}

// UpdateState implements [balancer.ClientConn].
func (i *instance) UpdateState(state balancer.State) {
	ready := state.ConnectivityState == connectivity.Ready
	i.ready.Store(ready)
	if ready {
		state.Picker = &choice{state.Picker, i}
	}
	i.ClientConn.UpdateState(state)
}

// choice picks an instance that is READY.
type choice struct {
	child    balancer.Picker
	instance *instance
}

// Pick implements [balancer.Picker].
func (c *choice) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	result, err := c.child.Pick(info)
	if err != nil {
		return result, err
	}
	c.instance.inFlight.Add(1)
	if inner := result.Done; inner != nil {
		result.Done = func(info balancer.DoneInfo) {
			c.instance.done(info)
			inner(info)
		}
	} else {
		result.Done = c.instance.done
	}
	return result, nil
}

// picker has the instances that are READY.
type picker []choice

// Pick implements [balancer.Picker].
func (p picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	return p.fewest(rand.Uint64()).Pick(info)
}

// fewest returns the instance with the fewest calls in flight of those that it compares.
// Of several with as few, each is as likely.
func (p picker) fewest(random uint64) *choice {
	at := int(random % uint64(len(p))) //nolint:gosec // less than a length
	best, equal := &p[at], uint64(1)
	least := best.instance.inFlight.Load()
	for range min(len(p), Choices) - 1 {
		at++
		if at == len(p) {
			at = 0
		}
		switch count := p[at].instance.inFlight.Load(); {
		case count < least:
			best, least, equal = &p[at], count, 1
		case count == least:
			equal++
			random = random*6364136223846793005 + 1442695040888963407 // Knuth's generator, whose high bits are the best
			if (random>>32)%equal == 0 {
				best = &p[at]
			}
		}
	}
	return best
}
