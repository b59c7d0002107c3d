package client

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	grpcresolver "google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// serviceClient has the connections of a bus to the instances of one proto service of an
// API. Instances of one API may serve different services, such as those of two packages.
type serviceClient struct {
	api     *api
	service string // the full proto name; "" means the service of any instance
	// limits are the declared timeouts, by gRPC's path.
	limits map[string]timeout.Limit
	outage *outage
	// withTimeouts applies limits to calls, by its service config.
	withTimeouts *channel

	// mu guards the fields below.
	mu     sync.Mutex
	closed bool
	// withoutTimeouts is for the rare call whose option Timeout is longer than the
	// declared timeout: grpc-go would apply the shorter of the two. The first such
	// call makes it.
	withoutTimeouts *channel
	// served reports whether an instance of the service was ever known. others are
	// the other services that instances of the API serve.
	served bool
	others []string
}

// channel is a grpc.ClientConn with the state of its instances and connections.
type channel struct {
	*grpc.ClientConn

	availability availability
	links        *links
	calls        *client.Channel
}

// newServiceClient returns the connections to a service of an API. It does no I/O.
func newServiceClient(of *api, service string) (*serviceClient, error) {
	c := &serviceClient{api: of, service: service, limits: make(map[string]timeout.Limit), outage: newOutage(of)}
	linked := of.bus.contracts.Service(service)
	if linked != nil && linked.Err == nil {
		for _, rpc := range linked.API.RPCs {
			if !rpc.Stream {
				c.limits[rpc.Method] = timeout.Declared(rpc.Timeout, linked.API.Timeout)
			}
		}
	}
	var err error
	c.withTimeouts, err = c.dial(c.limits)
	return c, err
}

// dial returns a channel that applies limits to calls.
func (c *serviceClient) dial(limits map[string]timeout.Limit) (*channel, error) {
	bus := c.api.bus
	ch := &channel{calls: bus.caller.NewChannel(), links: newLinks(c.api.name, bus.options.plainText.Spoken)}
	ch.calls.WithoutIdentity, ch.calls.Links = c.api.logAnonymous, bus.options.links
	ch.availability.observe(resolver.NewNoAnswerError(c.api.name))
	options, err := dialOptions(bus.options, ch.calls, limits, grpc.WithResolvers(resolver.NewBuilder(c.api.watch, resolver.Config{
		Observe: func(err error) {
			ch.availability.observe(err)
			c.outage.observe(err)
		},
		Connection: ch.links.observe,
		Zone:       bus.options.Zone,
		Accept: func(instance discovery.Instance, again func()) error {
			return c.accept(ch, instance, again)
		},
		Attach: func(address grpcresolver.Address, instance discovery.Instance, observer resolver.Observer) grpcresolver.Address {
			return ch.calls.WithInstance(bus.options.dialer.Attach(address, instance.Socket, instance.Incarnation), instance.Incarnation, observer)
		},
		Logger: bus.options.Log,
		Lines:  &c.api.lines,
	})))
	if err != nil {
		return nil, err
	}
	if ch.ClientConn, err = grpc.NewClient(resolver.Target(c.api.name), options...); err != nil {
		return nil, fmt.Errorf("%s: cannot make a connection: %w", c.api.name, err)
	}
	return ch, nil
}

// accept returns an error if a channel must not call an instance, and nil if it may:
// see [resolver.Config].
func (c *serviceClient) accept(ch *channel, instance discovery.Instance, again func()) error {
	if err := c.api.requireIdentity(instance); err != nil {
		return err
	}
	if err := c.otherService(instance); err != nil {
		return err
	}
	return c.api.checker.Accept(ch, instance, again)
}

// mostOthers is how many other services of an API are logged at most.
const mostOthers = 10

// otherService returns a *[discovery.ServiceError] if an instance does not serve the called
// service. It logs the first instance of each other service.
func (c *serviceClient) otherService(instance discovery.Instance) error {
	if c.service == "" || instance.Service == "" {
		return nil // any service is accepted, or the instance's service is not known
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if instance.Service == c.service {
		c.served = true
		return nil
	}
	err := &discovery.ServiceError{API: c.api.name, Service: c.service, Other: instance.Service, Address: instance.Address, Served: c.served}
	if !slices.Contains(c.others, instance.Service) && len(c.others) < mostOthers {
		c.others = append(c.others, instance.Service)
		// On another goroutine: the resolver's lock is held, and a call that the logger
		// makes may need it.
		c.api.checker.Run(func() {
			c.api.bus.options.Log.Warn("an instance of an API serves another service, and is not called for this one",
				"api", err.API, "address", err.Address, "service", err.Other, "called", err.Service)
		})
	}
	return err
}

// channelWithoutTimeouts returns the channel for a call whose timeout is longer than the
// declared one.
func (c *serviceClient) channelWithoutTimeouts(rpc string) (*channel, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, callerr.Closed(rpc)
	}
	if c.withoutTimeouts == nil {
		ch, err := c.dial(nil)
		if err != nil {
			return nil, err
		}
		c.withoutTimeouts = ch
	}
	return c.withoutTimeouts, nil
}

// Close ends the calls of the channel and its connections.
func (c *channel) Close() error {
	c.calls.Close()
	return c.ClientConn.Close()
}

// close ends the connections.
func (c *serviceClient) close() error {
	c.mu.Lock()
	c.closed = true
	withoutTimeouts := c.withoutTimeouts
	c.withoutTimeouts = nil
	c.mu.Unlock()
	err := c.withTimeouts.Close()
	if withoutTimeouts != nil {
		err = errors.Join(err, withoutTimeouts.Close())
	}
	return err
}
