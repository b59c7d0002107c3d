package framework

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/balancer/randomsubsetting"
	"google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/balancer/weightedroundrobin"
)

// policies are those of grpc-go that share calls out.
var policies = []string{
	leastrequest.Name, roundrobin.Name, weightedroundrobin.Name, ringhash.Name, randomsubsetting.Name, pickfirst.Name,
}

// defaultBalancing picks, of ten instances drawn at random, the one with the
// fewest calls under way: with fewer draws one that is frozen would be picked
// again and again where there are only two, though each draw costs an allocation.
var defaultBalancing = map[string]json.RawMessage{leastrequest.Name: json.RawMessage(`{"choiceCount":10}`)}

// LoadBalancing sets how a bus shares calls among the instances of an API, by
// the name of one of grpc-go's policies and its configuration as JSON, as in
// gRPC's service config; "" is the policy's defaults. Calls stay bound to the
// instance that was picked, whatever the policy.
//
// The default is "least_request_experimental" with {"choiceCount": 10}, which
// spares an instance that is slow or frozen. Others are "round_robin",
// "weighted_round_robin", "ring_hash_experimental" (configured with
// "requestHashHeader"), "random_subsetting_experimental" (with "subsetSize" and
// "childPolicy"), "pick_first", and whatever the program registered with
// balancer.Register.
func LoadBalancing(policy, config string) BusOption {
	return busOption(func(o *busOptions) error {
		builder := balancer.Get(policy)
		if builder == nil {
			return fmt.Errorf("option LoadBalancing: no policy has the name %q: use one of %q", policy, policies)
		}
		if config == "" {
			config = "{}"
		}
		parser, ok := builder.(balancer.ConfigParser)
		if !ok && config != "{}" {
			return fmt.Errorf("option LoadBalancing: policy %q takes no configuration: give \"\"", policy)
		}
		if ok {
			if _, err := parser.ParseConfig(json.RawMessage(config)); err != nil {
				return fmt.Errorf("option LoadBalancing: configuration %s of %q: %w", config, policy, err)
			}
		}
		o.balancing = map[string]json.RawMessage{policy: json.RawMessage(config)}
		return nil
	})
}

// Zone sets the failure domain that the program runs in, such as "eu-west-1a".
// A service is registered with it; a bus calls instances of its own zone, and
// all others only while it can't connect to one there. The default is none: a
// bus without a zone calls all alike.
func Zone(name string) Option {
	check := func() error {
		if name == "" {
			return errors.New("option Zone: is empty: leave it out to have none")
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *serveOptions) error {
			o.zone = name
			return check()
		},
		busOption: func(o *busOptions) error {
			o.zone = name
			return check()
		},
	}
}
