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

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	fewest "github.com/onecall-dev/onecall/internal/leastrequest"
)

// policies are the default load balancing policy, and those of grpc-go.
var policies = []string{
	fewest.Name, leastrequest.Name, roundrobin.Name, weightedroundrobin.Name, ringhash.Name, randomsubsetting.Name, pickfirst.Name,
}

// LoadBalancing sets how a bus distributes calls to the instances of an API. policy is
// "onecall_least_request" or the name of one of grpc-go's policies. config is its configuration as JSON, as in
// gRPC's service config. "" means the policy's defaults. With every policy a call is
// bound to the instance that was picked.
//
// The default is "onecall_least_request", which sends a call to the instance with the
// fewest calls in flight, and so fewer to one that is slow or frozen. It compares all
// instances of an API, or ten of them if there are more. It takes no configuration.
// Others are "least_request_experimental" (with "choiceCount"), "round_robin",
// "weighted_round_robin", "ring_hash_experimental" (configured with
// "requestHashHeader"), "random_subsetting_experimental" (with "subsetSize" and
// "childPolicy"), "pick_first", and every policy that the program registered with
// balancer.Register.
func LoadBalancing(policy, config string) BusOption {
	return busOption(func(o *client.Options) error {
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
		o.Balancing = map[string]json.RawMessage{policy: json.RawMessage(config)}
		return nil
	})
}

// Zone sets the failure domain in which the program runs, such as "eu-west-1a". A
// service is registered with its zone. A bus calls instances of its own zone. It calls
// instances of other zones only while it cannot connect to one of its own. By default
// there is no zone, and a bus does not prefer any instance.
func Zone(name string) Option {
	check := func() error {
		if name == "" {
			return errors.New("option Zone: is empty: leave it out to have none")
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Zone = name
			return check()
		},
		busOption: func(o *client.Options) error {
			o.Zone = name
			return check()
		},
	}
}
