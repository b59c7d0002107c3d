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
	p := &policy{ClientConn: conn, instances: resolver.NewEndpointMap[*instance]()}
	p.Balancer = endpointsharding.NewBalancer(p, options, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return p
}

// policy is the balancer that grpc-go calls: a balancer that connects to all instances,
// whose picker it replaces.
type policy struct {
	balancer.Balancer
	balancer.ClientConn // grpc-go's own, of which UpdateState is overridden for the balancer

	// instances are those that are READY. UpdateState alone uses it, which the balancer
	// calls under a lock.
	instances *resolver.EndpointMap[*instance]
}

// instance counts the calls of an instance.
type instance struct {
	inFlight atomic.Int64
	// done is called with the end of a call.
	done func(balancer.DoneInfo)
}

// UpdateClientConnState implements [balancer.Balancer].
func (p *policy) UpdateClientConnState(state balancer.ClientConnState) error {
	return p.Balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: pickfirst.EnableHealthListener(state.ResolverState)})
}

// UpdateState implements [balancer.ClientConn].
func (p *policy) UpdateState(state balancer.State) {
	known := resolver.NewEndpointMap[*instance]()
	var ready picker
	for _, child := range endpointsharding.ChildStatesFromPicker(state.Picker) {
		if child.State.ConnectivityState != connectivity.Ready {
			continue
		}
		counted, ok := p.instances.Get(child.Endpoint)
		if !ok {
			counted = new(instance)
			counted.done = func(balancer.DoneInfo) { counted.inFlight.Add(-1) }
		}
		known.Set(child.Endpoint, counted)
		ready = append(ready, choice{child.State.Picker, counted})
	}
	p.instances = known
	if len(ready) > 0 {
		state = balancer.State{ConnectivityState: connectivity.Ready, Picker: ready}
	}
	p.ClientConn.UpdateState(state)
}

// picker has the instances that are READY.
type picker []choice

// choice is an instance, and the picker of its connection.
type choice struct {
	child    balancer.Picker
	instance *instance
}

// Pick implements [balancer.Picker].
func (p picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	picked := p.fewest(rand.Uint64())
	result, err := picked.child.Pick(info)
	if err != nil {
		return result, err
	}
	picked.instance.inFlight.Add(1)
	if inner := result.Done; inner != nil {
		result.Done = func(info balancer.DoneInfo) {
			picked.instance.done(info)
			inner(info)
		}
	} else {
		result.Done = picked.instance.done
	}
	return result, nil
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
