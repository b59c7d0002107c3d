package framework

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/client"
)

// Bus is the connection of generated clients to all APIs of a registry. It finds the
// API by the called method. One bus is enough for a process. Its methods are safe for
// all goroutines. The first call of a service makes one connection to each instance
// that serves it.
type Bus struct{ calls *client.Bus }

var _ grpc.ClientConnInterface = (*Bus)(nil)

// NewBus returns a bus on a registry. The program closes the bus, then the registry.
// NewBus reads the files of option [TLS] and does no other I/O. Its errors name the
// wrong parameter or option.
func NewBus(registry discovery.Registry, options ...BusOption) (*Bus, error) {
	if registry == nil {
		return nil, errors.New("onecall: bus: registry is nil: open one with etcd.Open or memory.New")
	}
	read, err := newBusOptions(options)
	if err != nil {
		return nil, err
	}
	calls, err := client.NewBus(registry, read)
	if err != nil {
		return nil, err
	}
	return &Bus{calls: calls}, nil
}

// Invoke makes a unary call, for generated clients. method is gRPC's path,
// "/package.Service/Method". Its handler starts at most once, unless the RPC
// declares that it may run more often. [OutcomeOf] returns whether the handler of a
// failed call started.
//
// Errors are those of gRPC, and:
//   - INVALID_ARGUMENT: the path, the context or an option is not valid.
//   - INVALID_ARGUMENT with *validate.Error: the request breaks the API's rules. It
//     is not sent.
//   - INTERNAL with *validate.Error: the reply breaks the API's rules.
//   - INTERNAL: the API's .proto has an error.
//   - UNIMPLEMENTED with *discovery.UnknownAPIError.
//   - UNAVAILABLE with *discovery.NoInstanceError or *discovery.UnreachableError.
//   - DEADLINE_EXCEEDED with *timeout.Error.
//   - CANCELED with [ErrClosed].
//
// errors.Is finds [context.DeadlineExceeded] or [context.Canceled] in the error if
// ctx itself had ended, and neither if a declared timeout passed.
func (b *Bus) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	route, err := b.calls.Route(ctx, method, false, opts)
	if err != nil {
		return err
	}
	return route.Call(ctx, args, reply, opts)
}

// NewStream begins a stream, for generated clients. Its only timeout is the deadline
// of its context. Errors are those of [Bus.Invoke].
func (b *Bus) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	route, err := b.calls.Route(ctx, method, true, opts)
	if err != nil {
		return nil, err
	}
	return route.NewStream(ctx, desc, opts)
}

// Ready waits until the bus is connected to an instance of each API. If ctx ends
// first, Ready returns an error with the code of ctx's error, whose text has the
// reason for each API that is not ready. If a name is not valid or there is no name,
// Ready returns an INVALID_ARGUMENT error at once.
func (b *Bus) Ready(ctx context.Context, apis ...string) error { return b.calls.Ready(ctx, apis...) }

// Close ends the bus and all its connections. Calls under way and calls of
// [Bus.Describe] fail with CANCELED. A second Close does nothing.
func (b *Bus) Close() error { return b.calls.Close() }

// ErrClosed is the error of calls on a closed bus. Its code is CANCELED.
var ErrClosed = callerr.ErrClosed
