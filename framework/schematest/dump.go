package schematest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schemafile"
)

// Dump writes the schemas that the instances of APIs publish in a registry to a file, for
// [Fits]. apis are bus names. If instances of an API have several schemas, as during a
// deployment, the file has all of them. The errors are those of the registry, such as a
// *discovery.NoInstanceError; an instance that publishes no schema is an error too.
func Dump(ctx context.Context, registry discovery.Registry, path string, apis ...string) error {
	if len(apis) == 0 {
		return errors.New("schematest: Dump: there is no API: give bus names such as auth")
	}
	var content schemafile.File
	for _, name := range apis {
		found, err := published(ctx, registry, name)
		if err != nil {
			return fmt.Errorf("schematest: Dump: API %q: %w", name, err)
		}
		content.APIs = append(content.APIs, found...)
	}
	return content.Write(path)
}

// published returns the schemas of an API in a registry.
func published(ctx context.Context, registry discovery.Registry, name string) ([]schemafile.API, error) {
	snapshot, err := instances(ctx, registry, name)
	if err != nil {
		return nil, err
	}
	var found []schemafile.API
	for _, instance := range snapshot.Instances {
		if instance.Schema == "" {
			return nil, fmt.Errorf("the instance at %s publishes no schema", instance.Address)
		}
		if slices.ContainsFunc(found, func(a schemafile.API) bool { return a.Schema == instance.Schema && a.Service == instance.Service }) {
			continue
		}
		packed, err := registry.Descriptors(ctx, instance)
		if err != nil {
			return nil, err
		}
		one := schemafile.API{API: name, Service: instance.Service, Version: instance.Version, Schema: instance.Schema, Descriptors: []byte(packed)}
		if _, err := one.Unpack(); err != nil {
			return nil, fmt.Errorf("the instance at %s: %w", instance.Address, err)
		}
		found = append(found, one)
	}
	return found, nil
}

// instances returns the first snapshot of an API with instances, or why there are none.
func instances(ctx context.Context, registry discovery.Registry, name string) (discovery.Snapshot, error) {
	snapshots := make(chan discovery.Snapshot, 1)
	defer registry.Watch(name, func(snapshot discovery.Snapshot) {
		select {
		case <-snapshots: // the last one counts
		default:
		}
		snapshots <- snapshot
	})()
	var unreachable error
	for {
		select {
		case snapshot := <-snapshots:
			switch {
			case len(snapshot.Instances) > 0:
				return snapshot, nil
			case snapshot.Unreachable == nil:
				return discovery.Snapshot{}, snapshot.Err()
			}
			unreachable = snapshot.Unreachable
		case <-ctx.Done():
			return discovery.Snapshot{}, errors.Join(ctx.Err(), unreachable)
		}
	}
}

// DumpCalls writes the schemas with which a caller was built to a file, for [FitsCaller] in
// the test of a service. caller is the name of the program. rpcs are the RPCs that it uses,
// by bus name or gRPC's path; their generated code must be linked into this program.
func DumpCalls(path, caller string, rpcs ...string) error {
	if caller == "" || len(rpcs) == 0 {
		return errors.New("schematest: DumpCalls: give the name of the caller, and the RPCs that it uses, such as auth.check_password")
	}
	content := schemafile.File{Caller: caller}
	for _, rpc := range rpcs {
		method := linkedRPC(rpc)
		if method == nil {
			return fmt.Errorf("schematest: DumpCalls: no RPC %q is linked into the program: import its generated code", rpc)
		}
		at := slices.IndexFunc(content.APIs, func(a schemafile.API) bool { return a.Service == method.Service.API.Service })
		if at < 0 {
			one, err := schemafile.Linked(method.Service.API.Name, method.Service.Descriptor)
			if err != nil {
				return fmt.Errorf("schematest: DumpCalls: %w", err)
			}
			content.APIs, at = append(content.APIs, one), len(content.APIs)
		}
		content.APIs[at].RPCs = append(content.APIs[at].RPCs, method.RPC.Name)
	}
	return content.Write(path)
}

// contracts returns the RPCs that are linked into the program.
func contracts() *contract.Index { return contract.NewIndex(protoregistry.GlobalFiles) }

// linkedRPC returns an RPC by its bus name or gRPC's path, nil if it is not linked in.
func linkedRPC(name string) *contract.Method {
	index := contracts()
	if found := index.Method(name); found != nil {
		return found
	}
	return index.RPC(name)
}
