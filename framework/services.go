package framework

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
)

// connectionKey is what a bus has one set of connections for: instances of one API
// may serve different proto services, such as those of two packages.
type connectionKey struct {
	// api is the bus name.
	api string
	// service is the full proto name; "" is that of any instance.
	service string
}

// ServiceError says that instances of an API serve another proto service than the
// called one, and that no instance serves that.
type ServiceError struct {
	// API is the bus name.
	API string
	// Service is the full proto name of the called service.
	Service string
	// Other is that of the service at Address.
	Other, Address string
	// Served says that an instance of the called service was known before.
	Served bool
}

// Error implements error.
func (e *ServiceError) Error() string {
	if e.Served {
		return fmt.Sprintf("API %q has no instance of the service %s now, only of others, such as %.100q at %s: start one", e.API, e.Service, e.Other, e.Address)
	}
	return fmt.Sprintf("API %q is served by %.100q, such as at %s, and this call is to %s: build the caller from the .proto of the instances, "+
		"start an instance of the called service, or give one of the two services another API name", e.API, e.Other, e.Address, e.Service)
}

// otherService returns a *[ServiceError] for an instance that serves another
// service than the called one, else nil; d.mu is held. The first instance of each
// other service is logged.
func (d *drift) otherService(instance discovery.Instance) error {
	if d.service == "" || instance.Service == "" {
		return nil // any will do, or nothing is known
	}
	if instance.Service == d.service {
		d.served = true
		return nil
	}
	err := &ServiceError{API: d.api, Service: d.service, Other: instance.Service, Address: instance.Address, Served: d.served}
	if !slices.Contains(d.others, instance.Service) && len(d.others) < mostOthers && !d.closed {
		d.others = append(d.others, instance.Service)
		// The caller has the registry's locks, which the logger may need.
		d.judging.Go(func() {
			d.bus.options.log.Warn("an instance of an API serves another service, and is not called for this one",
				"api", d.api, "address", err.Address, "service", err.Other, "called", err.Service)
		})
	}
	return err
}

// mostOthers is how many other services of an API are logged.
const mostOthers = 10

// linkedServices returns the services of an API that are linked into the program,
// by their full proto names.
func (b *Bus) linkedServices(api string) []string {
	var names []string
	for _, service := range b.contracts.Named(api) {
		names = append(names, service.API.Service)
	}
	if len(names) == 0 && serviceNamed(api) != nil { // it goes by its full proto name
		names = append(names, api)
	}
	return names
}

// reach returns the connections by which the program calls an API: to the services
// that are linked into it, else to those that it has called, else to those that
// instances serve, for which it waits.
func (b *Bus) reach(ctx context.Context, api string) ([]*connection, error) {
	services := b.linkedServices(api)
	if len(services) == 0 {
		if found := b.connectionsOf(api); len(found) > 0 {
			return found, nil
		}
		var err error
		if services, err = b.servedServices(ctx, api); err != nil {
			return nil, err
		}
	}
	connections := make([]*connection, 0, len(services))
	for _, service := range services {
		conn, err := b.connect(connectionKey{api, service}, api)
		if err != nil {
			return nil, err
		}
		connections = append(connections, conn)
	}
	return connections, nil
}

// connectionsOf returns the connections of an API that there are.
func (b *Bus) connectionsOf(api string) []*connection {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []*connection
	for key, conn := range b.connections {
		if key.api == api {
			found = append(found, conn)
		}
	}
	return found
}

// servedServices waits until an API has an instance, and returns the services that
// its instances serve. Its error says why there is none when ctx ends.
func (b *Bus) servedServices(ctx context.Context, api string) ([]string, error) {
	p, err := b.follow(api)
	if err != nil {
		return nil, err
	}
	defer b.release(api, p)
	var problem error = resolver.NewNoAnswerError(api)
	for {
		snapshot, changed := p.now()
		if snapshot != nil {
			if problem = snapshot.Err(); problem == nil {
				return servicesOf(snapshot.Instances), nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, problem
		case <-b.fetching.life.Done():
			return nil, ErrClosed
		}
	}
}

// servicesOf returns the services of the instances that take calls.
func servicesOf(instances []discovery.Instance) []string {
	var services []string
	for _, instance := range instances {
		if instance.State != discovery.Draining && !slices.Contains(services, instance.Service) {
			services = append(services, instance.Service)
		}
	}
	return services
}

// readyAny waits until one of several connections is ready. Its error says of each
// why it is not.
func readyAny(ctx context.Context, connections []*connection) error {
	if len(connections) == 1 {
		return connections[0].ready(ctx)
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	errs := make([]error, len(connections))
	for i, conn := range connections {
		all.Go(func() {
			if errs[i] = conn.ready(waiting); errs[i] == nil {
				cancel()
			}
		})
	}
	all.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(errs...)
}
