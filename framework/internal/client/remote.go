package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/schemas"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
)

// isCurrent reports whether an instance has the schema with a digest, or no instance is
// known. It takes no lock.
func (a *api) isCurrent(digest string) bool {
	latest := a.watch.latest.Load()
	return latest == nil || len(latest.List) == 0 ||
		slices.ContainsFunc(latest.List, func(i *discovery.Instance) bool { return i.Schema == digest })
}

// remoteSchema returns a schema that an instance of an API publishes, and its digest.
// It prefers a schema that has the RPC. rpc is "" if any schema is accepted. It waits
// for at most the timeout of a call with these options. what is the name in its errors.
func (b *Bus) remoteSchema(ctx context.Context, name, what, rpc string, options []grpc.CallOption) (*schema.Schema, string, error) {
	call, err := timeout.Begin(timeout.Declared(0, 0), options)
	if err != nil {
		return nil, "", failure{rpc: what, outcome: atmostonce.NotSent, err: err}.asError()
	}
	if err := contract.CheckName(name); err != nil {
		return nil, "", callerr.Invalid(what, "%v", err)
	}
	of, err := b.acquire(name, what)
	if err != nil {
		return nil, "", err
	}
	defer b.release(of)
	limited, cancel := b.limit(ctx, call)
	defer cancel()
	found, digest, err := of.remoteSchema(limited, rpc)
	if err != nil {
		return nil, "", b.schemaError(ctx, limited, what, err)
	}
	return found, digest, nil
}

// remoteSchema returns a schema that has the RPC. If no schema has it, and all could be
// read, it returns the first.
func (a *api) remoteSchema(ctx context.Context, rpc string) (*schema.Schema, string, error) {
	instances, err := a.publishing(ctx)
	if err != nil {
		return nil, "", err
	}
	has := func(found *schema.Schema) bool { return rpc == "" || methodByName(found.Service, a.name, rpc) != nil }
	if found, digest := a.schemas.Find(instances, has); found != nil {
		return found, digest, nil
	}
	var first *schema.Schema
	var firstDigest string
	var errs []error
	for _, instance := range instances {
		found, err := a.fetch(ctx, instance)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("the schema of API %q at %s: %w", a.name, instance.Address, err))
		case has(found):
			a.schemas.Use(instance.Schema)
			return found, instance.Schema, nil
		case first == nil:
			first, firstDigest = found, instance.Schema
		}
		if ctx.Err() != nil || len(errs) == schemas.MostKept {
			break
		}
	}
	if first != nil && len(errs) == 0 {
		return first, firstDigest, nil
	}
	return nil, "", errors.Join(errs...)
}

// fetch returns the schema of an instance, and keeps it.
func (a *api) fetch(ctx context.Context, instance discovery.Instance) (*schema.Schema, error) {
	if found := a.schemas.Of(instance.Schema); found != nil {
		return found, nil
	}
	found, err := a.bus.fetcher.Get(ctx, instance)
	if err == nil {
		a.schemas.Keep(found, instance.Schema, a.isCurrent)
	}
	return found, err
}

// publishing waits for the registry, and returns the instances that publish a schema.
func (a *api) publishing(ctx context.Context) ([]discovery.Instance, error) {
	snapshot, err := a.watch.wait(ctx, func(discovery.Snapshot) bool { return true })
	if err == nil {
		err = snapshot.Err()
	}
	if err != nil {
		return nil, err
	}
	instances := slices.DeleteFunc(slices.Clone(snapshot.Instances), func(i discovery.Instance) bool { return i.Schema == "" })
	if len(instances) == 0 {
		return nil, fmt.Errorf("API %q: %w", a.name, schemas.ErrNoSchema)
	}
	return instances, nil
}

// schemaError returns the error of a call that could not get a schema from the registry,
// or find out whether the API exists. ctx is the program's context, limited the call's.
func (b *Bus) schemaError(ctx, limited context.Context, what string, err error) error {
	code := codeOf(err)
	if limited.Err() != nil {
		code = status.FromContextError(limited.Err()).Code()
	}
	if b.ended(ctx, code) {
		return callerr.Closed(what, err)
	}
	causes := []error{err}
	if ended := endOf(ctx, code); ended != nil {
		causes = append(causes, ended)
	}
	text := fmt.Sprintf("%s: %v (%v)", what, err, atmostonce.NotSent)
	return callerr.New(callerr.Briefly(nil, code, what), atmostonce.NotSent, text, causes...)
}
