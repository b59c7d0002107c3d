package resolver

import (
	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
)

// Used returns the instances that a resolver has in use.
func Used(built resolver.Resolver) []discovery.Instance {
	r, ok := built.(*apiResolver)
	if !ok {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	used := make([]discovery.Instance, 0, len(r.instances.used))
	for _, c := range r.instances.used {
		used = append(used, *c.instance)
	}
	return used
}
