package server

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/internal/contract"
)

// apis holds the services that a program registers, and returns mistakes as errors
// before anything is served. grpc-go's own server ends the process on a mistake.
type apis struct {
	log *slog.Logger

	// mu guards the fields below. grpc-go's server takes its own lock while it is held.
	mu       sync.Mutex
	services []service
	server   *grpc.Server // nil while the program registers
	errs     []error
}

// service is a registered service; api is nil for gRPC's own.
type service struct {
	desc *grpc.ServiceDesc
	impl any
	api  *contract.API
}

var _ grpc.ServiceRegistrar = (*apis)(nil)

// RegisterService implements [grpc.ServiceRegistrar].
func (a *apis) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if !a.add(desc, impl) {
		a.log.Error("a service was registered after Serve had begun and is not served: register it in the function given to Serve", "service", desc.ServiceName)
	}
}

// add adds a service, and reports whether it was in time.
func (a *apis) add(desc *grpc.ServiceDesc, impl any) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil {
		return false
	}
	added, err := a.read(desc, impl)
	if err != nil {
		a.errs = append(a.errs, err)
		return true
	}
	a.services = append(a.services, added)
	return true
}

// GetServiceInfo returns what is served, for gRPC's reflection service.
func (a *apis) GetServiceInfo() map[string]grpc.ServiceInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server == nil {
		return nil
	}
	return a.server.GetServiceInfo()
}

// read checks a service against the services before it and reads its contract.
func (a *apis) read(desc *grpc.ServiceDesc, impl any) (service, error) {
	if desc == nil {
		return service{}, errors.New("a service description is nil: register with the generated function")
	}
	if impl == nil {
		return service{}, fmt.Errorf("%s: its implementation is nil", desc.ServiceName)
	}
	if want := desc.HandlerType; want != nil && !reflect.TypeOf(impl).Implements(reflect.TypeOf(want).Elem()) {
		return service{}, fmt.Errorf("%s: %T does not implement %v", desc.ServiceName, impl, reflect.TypeOf(want).Elem())
	}
	for _, other := range a.services {
		if other.desc.ServiceName == desc.ServiceName {
			return service{}, fmt.Errorf("%s: is registered twice: a server has one implementation of a service: remove one of the two calls that register it", desc.ServiceName)
		}
	}
	if contract.IsBuiltin(desc.ServiceName) {
		return service{desc: desc, impl: impl}, nil
	}
	if err := streaming(desc); err != nil {
		return service{}, err
	}
	api, err := contract.Find(protoregistry.GlobalFiles, desc.ServiceName)
	if err == nil && api == nil {
		api, err = contract.FromServiceDesc(desc)
	}
	if err != nil {
		return service{}, err
	}
	for _, other := range a.services {
		if other.api != nil && other.api.Name == api.Name {
			return service{}, fmt.Errorf("%s: goes by the API name %q, as does %s: a server has one API of a name; serve them apart or rename one", api.Service, api.Name, other.api.Service)
		}
	}
	return service{desc: desc, impl: impl, api: api}, nil
}

// streaming returns an error if a stream of a description streams in neither
// direction: grpc-go calls no interceptor for it.
func streaming(desc *grpc.ServiceDesc) error {
	for _, stream := range desc.Streams {
		if !stream.ClientStreams && !stream.ServerStreams {
			return fmt.Errorf("%s: its StreamDesc %s streams in neither direction, and for such a stream grpc-go calls no interceptor: list the RPC among the Methods of the description",
				desc.ServiceName, stream.StreamName)
		}
	}
	return nil
}

// check returns the mistakes in the program's registrations.
func (a *apis) check() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.errs) > 0 {
		return errors.Join(a.errs...)
	}
	for _, service := range a.services {
		if service.api != nil {
			return nil
		}
	}
	return errors.New("no API was registered: call the generated functions, such as authv1.RegisterAuthServiceServer, in the function given to Serve")
}

// contracts returns the contracts of all APIs.
func (a *apis) contracts() []*contract.API {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*contract.API
	for _, service := range a.services {
		if service.api != nil {
			all = append(all, service.api)
		}
	}
	return all
}

// has reports whether the program registered a service itself.
func (a *apis) has(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, service := range a.services {
		if service.desc.ServiceName == name {
			return true
		}
	}
	return false
}

// callable returns what a policy can name.
func (a *apis) callable() callable {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := callable{groups: make(map[string][]string), rpcs: make(map[string]string)}
	for _, service := range a.services {
		if service.api == nil {
			c.addBuiltin(service.desc)
			continue
		}
		for _, rpc := range service.api.RPCs {
			c.groups[service.api.Name] = append(c.groups[service.api.Name], rpc.Method)
			c.rpcs[rpc.Name] = rpc.Method
		}
	}
	return c
}

// serveOn registers all services at a server, each with the description that wrap returns.
// Afterwards no service can be registered.
func (a *apis) serveOn(server *grpc.Server, wrap func(service) *grpc.ServiceDesc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.server = server
	for _, service := range a.services {
		server.RegisterService(wrap(service), service.impl)
	}
}

// outliving returns the methods whose handlers go on when the connection of their caller
// is lost, by gRPC's path.
func outliving(all []*contract.API) map[string]bool {
	methods := make(map[string]bool)
	for _, api := range all {
		for _, rpc := range api.RPCs {
			methods[rpc.Method] = !rpc.EndsWithConnection && rpc.Idempotency != descriptorpb.MethodOptions_NO_SIDE_EFFECTS
		}
	}
	return methods
}

// limited returns the unary methods and their declared limits, by gRPC's path.
func limited(all []*contract.API) map[string]timeout.Method {
	methods := make(map[string]timeout.Method)
	for _, api := range all {
		for _, rpc := range api.RPCs {
			if !rpc.Stream {
				methods[rpc.Method] = timeout.Method{RPC: rpc.Name, Limit: timeout.Declared(rpc.Timeout, api.Timeout)}
			}
		}
	}
	return methods
}
