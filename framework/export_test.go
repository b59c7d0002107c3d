package framework

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/schema"
)

// Places returns the names of the places in the chain of a service, the outermost
// first.
func Places() []string {
	var names []string
	for _, place := range new(chain).order(serveOptions{}, nil, nil) {
		names = append(names, place.name)
	}
	return names
}

// Policies are the policies that LoadBalancing's error suggests.
var Policies = policies

// Kept counts the routes, APIs and service clients that a bus keeps.
func Kept(b *Bus) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := len(*b.routes.Load()) + len(b.apis)
	for _, of := range b.apis {
		kept += len(of.clients)
	}
	return kept
}

// KeptChecks counts the schemas of instances whose checks a bus keeps.
func KeptChecks(b *Bus) (count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, of := range b.apis {
		of.checker.mu.Lock()
		count += len(of.checker.checks)
		of.checker.mu.Unlock()
	}
	return count
}

// WhileLocked runs f while another goroutine holds the locks of a bus and of its
// APIs.
func WhileLocked(b *Bus, f func()) {
	locks := []*sync.Mutex{&b.mu}
	for _, of := range b.apis {
		for _, client := range of.clients {
			locks = append(locks, &client.mu)
		}
		locks = append(locks, &of.watch.mu, &of.schemas.mu, &of.checker.mu)
	}
	for _, lock := range locks {
		lock.Lock()
	}
	defer func() {
		for _, lock := range locks {
			lock.Unlock()
		}
	}()
	f()
}

// BeforeUnpack makes a bus call hold before it reads a schema. The bus must not have made
// a call yet.
func BeforeUnpack(b *Bus, hold func()) {
	b.fetcher.unpacked = func(packed, service string) (*schema.Schema, error) {
		hold()
		return schema.Unpack(packed, service)
	}
}

// Chained returns a call of the first method of a service as grpc-go makes it, in a
// chain with options, without a connection.
func Chained(desc *grpc.ServiceDesc, impl any, options ...ServeOption) (call func(ctx context.Context, decode func(any) error) error, end func(), err error) {
	read, err := newServeOptions(options)
	if err != nil {
		return nil, nil, err
	}
	calls := newUnderWay(nil)
	calls.add(desc)
	c, err := newChain(read, discovery.NewIncarnation(), calls, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	method := c.service(desc).Methods[0].Handler
	return func(ctx context.Context, decode func(any) error) error {
		_, err := method(impl, ctx, decode, c.serveUnary)
		return err
	}, c.guard.Close, nil
}
