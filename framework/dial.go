package framework

import (
	"context"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
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
// connection, then the registry. Dial reads the files of option [TLS] and does no other
// I/O. Its errors name the wrong parameter or option.
func Dial(registry discovery.Registry, api string, options ...BusOption) (*Conn, error) {
	if err := contract.CheckName(api); err != nil {
		return nil, callerr.Invalid("onecall: Dial", "%v", err)
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
	route, err := c.bus.calls.RouteOf(ctx, c.api, method, false, opts)
	if err != nil {
		return err
	}
	return route.Call(ctx, args, reply, opts)
}

// NewStream begins a stream, as [Bus.NewStream] does. It accepts the same methods as
// [Conn.Invoke].
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	route, err := c.bus.calls.RouteOf(ctx, c.api, method, true, opts)
	if err != nil {
		return nil, err
	}
	return route.NewStream(ctx, desc, opts)
}

// Ready waits until an instance is connected, as [Bus.Ready] does.
func (c *Conn) Ready(ctx context.Context) error { return c.bus.Ready(ctx, c.api) }

// Settle asks what became of a call on this connection, as [Bus.Settle] does.
func (c *Conn) Settle(ctx context.Context, err error, reply any) error {
	return c.bus.Settle(ctx, err, reply)
}

// SettleToken settles a call of another process, as [Bus.SettleToken] does.
func (c *Conn) SettleToken(ctx context.Context, token string, reply any) error {
	return c.bus.SettleToken(ctx, token, reply)
}

// Close ends the connection. Calls that are under way end with CANCELED. A
// second Close does nothing.
func (c *Conn) Close() error { return c.bus.Close() }
