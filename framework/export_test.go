package framework

import (
	"context"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/internal/envconfig"
	"github.com/onecall-dev/onecall/internal/schema"
)

// Places returns the names of the places in the chain of a service, the outermost
// first.
func Places() []string { return server.Places() }

// Policies are the policies that LoadBalancing's error suggests.
var Policies = policies

// Kept counts the routes, APIs and service clients that a bus keeps.
func Kept(b *Bus) int {
	kept := b.calls.Kept()
	return kept.Routes + kept.APIs + kept.Services
}

// KeptChecks counts the schemas of instances whose checks a bus keeps.
func KeptChecks(b *Bus) int { return b.calls.Kept().Schemas }

// WhileLocked runs f while another goroutine holds the locks of a bus and of its
// APIs.
func WhileLocked(b *Bus, f func()) {
	locks := b.calls.Locks()
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

// BeforeUnpack makes a bus call hold before it reads a schema.
func BeforeUnpack(hold func()) BusOption {
	return busOption(func(o *client.Options) error {
		o.Unpack = func(packed, service string) (*schema.Schema, error) {
			hold()
			return schema.Unpack(packed, service)
		}
		return nil
	})
}

// Chained returns a call of the first method of a service as grpc-go makes it, in a
// chain with options, without a connection.
func Chained(desc *grpc.ServiceDesc, impl any, options ...ServeOption) (call func(ctx context.Context, decode func(any) error) error, end func(), err error) {
	read, err := newServeOptions(options)
	if err != nil {
		return nil, nil, err
	}
	return server.Chained(desc, impl, read)
}

// Variables returns the names of the variables of FromEnv.
func Variables() []string { return envconfig.Names(environment{}) }
