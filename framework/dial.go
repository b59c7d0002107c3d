package framework

import (
	"context"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/internal/contract"
)

// Conn is a connection to the instances of one API: a [Bus] that calls only this API.
// Its methods are safe for all goroutines.
type Conn struct {
	bus *Bus
	api string
}

var _ grpc.ClientConnInterface = (*Conn)(nil)

// Dial returns a connection to one API, by its bus name. The program closes the
// connection, then the registry. Dial does no I/O. Its errors name the wrong parameter
// or option.
func Dial(registry discovery.Registry, api string, options ...BusOption) (*Conn, error) {
	if err := contract.CheckName(api); err != nil {
		return nil, invalid("onecall: Dial", "%v", err)
	}
	bus, err := NewBus(registry, options...)
	if err != nil {
		return nil, err
	}
	return &Conn{bus: bus, api: api}, nil
}

// Invoke makes a unary call, as [Bus.Invoke] does. A method of another API is an
// INVALID_ARGUMENT error. A method of gRPC's own services, such as health, is called
// at any instance.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	route, err := c.route(ctx, method, opts)
	if err != nil {
		return c.bus.notCalled(ctx, c.bus.nameOf(method), false, err)
	}
	return route.call(ctx, args, reply, opts)
}

// NewStream begins a stream, as [Bus.NewStream] does. It accepts the same methods as
// [Conn.Invoke].
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	route, err := c.route(ctx, method, opts)
	if err != nil {
		return nil, c.bus.notCalled(ctx, c.bus.nameOf(method), true, err)
	}
	return route.newStream(ctx, desc, opts)
}

// Ready waits until an instance is connected, as [Bus.Ready] does.
func (c *Conn) Ready(ctx context.Context) error { return c.bus.Ready(ctx, c.api) }

// Close ends the connection. Calls that are under way end with CANCELED. A
// second Close does nothing.
func (c *Conn) Close() error { return c.bus.Close() }

func (c *Conn) route(ctx context.Context, method string, opts []grpc.CallOption) (*route, error) {
	if service, _, ok := contract.SplitMethod(method); ok && ctx != nil && contract.IsBuiltin(service) {
		return c.builtin(method)
	}
	route, err := c.bus.route(ctx, method, opts)
	if err != nil {
		return nil, err
	}
	if route.client.api.name != c.api {
		return nil, invalid(route.rpc, "it is not of API %s, which this connection was dialled to: Dial its own API or use a Bus", c.api)
	}
	return route, nil
}

// builtin returns the route of a method of gRPC's own services, which every instance
// serves. If the program has one service of the API linked in, the route uses the
// connections of that service.
func (c *Conn) builtin(path string) (*route, error) {
	service := ""
	if services := c.bus.linkedServices(c.api); len(services) == 1 {
		service = services[0]
	}
	client, err := c.bus.connect(c.api, service, path)
	if err != nil {
		return nil, err
	}
	return &route{path: path, rpc: shownName(path), client: client, limit: timeout.Declared(0, 0), listed: true}, nil
}
