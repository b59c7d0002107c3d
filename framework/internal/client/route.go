package client

import (
	"context"
	"maps"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/meter"
	"github.com/onecall-dev/onecall/framework/internal/schemas"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/quote"
)

// Route is one method and how to call it. It never changes.
type Route struct {
	path   string // gRPC's path, such as "/auth.v1.AuthService/CheckPassword"
	rpc    string // the bus name, such as "auth.check_password"
	client *serviceClient
	// limit is the declared timeout of a unary RPC. configured says that the client's
	// channel withTimeouts applies it.
	limit      timeout.Limit
	configured bool
	rules      validate.Method
	calls      *meter.Calls // nil without metrics
	// idempotent says that the RPC declares that it may run more than once.
	idempotent bool
	// listed says that the caller's .proto of the service has the RPC, or that the RPC
	// has returned a reply.
	listed bool
}

// newRoute returns the route of an RPC of an API. rpc is nil if the caller's .proto of
// the API does not have the RPC.
func newRoute(client *serviceClient, of *contract.API, path string, rpc *contract.RPC, rules validate.Method) *Route {
	_, method, _ := contract.SplitMethod(path)
	added := &Route{
		path: path, rpc: rpcName(of.Name, method), client: client, rules: rules, limit: timeout.Declared(0, of.Timeout),
		calls: client.api.bus.meters.Other(),
	}
	if rpc != nil {
		added.calls = client.api.bus.meters.Add(path)
		added.limit = timeout.Declared(rpc.Timeout, of.Timeout)
		added.idempotent = rpc.Idempotency != contract.IdempotencyUnknown
		added.listed = true
	}
	_, added.configured = client.limits[path]
	return added
}

// route returns the route of a method.
func (b *Bus) route(ctx context.Context, path string, opts []grpc.CallOption) (*Route, error) {
	if ctx == nil {
		return nil, callerr.Invalid(b.nameOf(path), "the context is nil: give context.Background() if there is no other")
	}
	if found, ok := (*b.routes.Load())[path]; ok {
		return found, nil
	}
	return b.addRoute(ctx, path, opts)
}

// addRoute makes the route of a method that is called for the first time. Paths may come
// from outside, so it keeps only routes of methods that the program's own .proto has. It
// keeps no state of a service that is neither linked in nor known to the registry.
func (b *Bus) addRoute(ctx context.Context, path string, opts []grpc.CallOption) (*Route, error) {
	service, method, ok := contract.SplitMethod(path)
	if !ok {
		return nil, callerr.Invalid(quote.Text(path), `this is not of gRPC's form "/package.Service/Method": call by a generated client, or by name with Call`)
	}
	if contract.IsBuiltin(service) {
		return nil, callerr.Invalid(service, "this is a service of gRPC's own and of each instance, no API: Dial the API whose instances are meant")
	}
	of, err := b.contracts.Find(service)
	linked := of != nil
	if err == nil && !linked {
		of, err = contract.FromServiceDesc(&grpc.ServiceDesc{ServiceName: service})
	}
	if err != nil {
		return nil, callerr.Faulty(b.nameOf(path), err)
	}
	rpc := rpcName(of.Name, method)
	if !linked {
		if err := b.everServed(ctx, of.Name, rpc, opts); err != nil {
			return nil, err
		}
	}
	client, err := b.connect(of.Name, service, rpc)
	if err != nil {
		return nil, err
	}
	var listed *contract.RPC
	var rules validate.Method
	if found := b.contracts.Method(path); found != nil {
		listed = found.RPC
		if rules, err = schemas.CompileRule(of, listed); err != nil {
			return nil, callerr.Faulty(b.nameOf(path), err)
		}
	}
	added := newRoute(client, of, path, listed, rules)
	if added.listed {
		b.keep(added)
	}
	return added, nil
}

// nameOf returns the bus name of a method if its service is linked into the program,
// otherwise its path.
func (b *Bus) nameOf(path string) string {
	if found := b.contracts.Method(path); found != nil {
		return found.RPC.Name
	}
	return path
}

// rpcName returns the bus name of a method as error texts show it.
func rpcName(api, method string) string { return callerr.ShownName(contract.RPCName(api, method)) }

// keep keeps a route for the calls that follow.
func (b *Bus) keep(kept *Route) {
	b.mu.Lock()
	defer b.mu.Unlock()
	routes := maps.Clone(*b.routes.Load())
	routes[kept.path] = kept
	b.routes.Store(&routes)
}

// keepAnswered keeps the route of a method that the program's own .proto does not have,
// after the method has returned a reply.
func (b *Bus) keepAnswered(answered *Route) {
	kept := *answered
	kept.listed, kept.calls = true, b.meters.Add(kept.path)
	b.keep(&kept)
}

// RouteOf returns the route of a method of one API, or of a method of gRPC's own services,
// such as health. It is [Bus.Route] otherwise.
func (b *Bus) RouteOf(ctx context.Context, api, path string, stream bool, opts []grpc.CallOption) (*Route, error) {
	found, err := b.routeOf(ctx, api, path, opts)
	if err != nil {
		return nil, b.notCalled(ctx, b.nameOf(path), stream, err)
	}
	return found, nil
}

func (b *Bus) routeOf(ctx context.Context, api, path string, opts []grpc.CallOption) (*Route, error) {
	if service, _, ok := contract.SplitMethod(path); ok && ctx != nil && contract.IsBuiltin(service) {
		return b.builtin(api, path)
	}
	found, err := b.route(ctx, path, opts)
	if err != nil {
		return nil, err
	}
	if found.client.api.name != api {
		return nil, callerr.Invalid(found.rpc, "it is not of API %s, which this connection was dialled to: Dial its own API or use a Bus", api)
	}
	return found, nil
}

// builtin returns the route of a method of gRPC's own services, which every instance
// serves. If the program has one service of the API linked in, the route uses the
// connections of that service.
func (b *Bus) builtin(api, path string) (*Route, error) {
	service := ""
	if services := b.linkedServices(api); len(services) == 1 {
		service = services[0]
	}
	client, err := b.connect(api, service, path)
	if err != nil {
		return nil, err
	}
	return &Route{path: path, rpc: callerr.ShownName(path), client: client, limit: timeout.Declared(0, 0), listed: true, calls: b.meters.Other()}, nil
}
