package framework

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/protoargs"
)

// Bus is the connection of generated clients to all APIs of a registry. It finds the
// API by the called method. One bus is enough for a process. Its methods are safe for
// all goroutines. The first call of a service makes one connection to each instance
// that serves it.
type Bus struct {
	registry discovery.Registry
	options  busOptions
	// contracts are the contracts of the APIs that are linked into the program.
	contracts *contract.Index
	caller    *client.Caller
	throttle  throttle
	closed    atomic.Bool

	// routes are by gRPC's path. Calls read them without a lock. The map is never
	// changed: it is replaced, under mu.
	routes atomic.Pointer[map[string]*route]

	// byName are the RPCs that were called by name, by that name.
	byName  sync.Map // of *byNameRPC
	fetcher *schemaFetcher
	// incompatible counts schemas that are incompatible with the program's own.
	incompatible atomic.Uint64

	// mu guards apis, the fields of an api whose comments name it, and the replacement
	// of routes. It is not held while the registry or the program's logger is called.
	mu   sync.Mutex
	apis map[string]*api // by bus name
}

var _ grpc.ClientConnInterface = (*Bus)(nil)

// NewBus returns a bus on a registry. The program closes the bus, then the registry.
// NewBus does no I/O. Its errors name the wrong parameter or option.
func NewBus(registry discovery.Registry, options ...BusOption) (*Bus, error) {
	if registry == nil {
		return nil, errors.New("onecall: bus: registry is nil: open one with etcd.Open or memory.New")
	}
	read, err := newBusOptions(options)
	if err != nil {
		return nil, err
	}
	caller := client.NewCaller()
	if err := checkDialOptions(&read, caller); err != nil {
		return nil, err
	}
	bus := &Bus{
		registry:  registry,
		options:   read,
		contracts: contract.NewIndex(protoregistry.GlobalFiles),
		caller:    caller,
		fetcher:   newSchemaFetcher(registry),
		apis:      make(map[string]*api),
	}
	bus.throttle.start()
	bus.routes.Store(&map[string]*route{})
	return bus, nil
}

// checkDialOptions returns an error if every connection would fail with the dial
// options. It sets whether they have credentials that exclude the default ones, such
// as grpc.WithCredentialsBundle, and the largest message that a call may send.
func checkDialOptions(read *busOptions, caller *client.Caller) error {
	warnOfServiceConfig(read.log, read.dial)
	try := func() error {
		options, err := dialOptions(*read, caller.NewChannel(), nil)
		if err != nil {
			return err
		}
		// grpc-go calls this interceptor first, so none of the program's runs.
		options = append(options, grpc.WithUnaryInterceptor(func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			read.sendLimit = client.SendLimit(opts, protoargs.DefaultLimit)
			return nil
		}))
		conn, err := grpc.NewClient("passthrough:///check", options...) // does no I/O
		if err != nil {
			return fmt.Errorf("onecall: bus: option DialOptions: %w", err)
		}
		return errors.Join(conn.Invoke(context.Background(), "/check", nil, nil), conn.Close())
	}
	err := try()
	if err == nil {
		return nil
	}
	read.credentials = true
	_, none := grpc.NewClient("passthrough:///check") // the error of a connection without credentials
	own := try()
	if errors.Is(own, none) {
		return err
	}
	return own
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
	route, err := b.route(ctx, method, opts)
	if err != nil {
		return b.notCalled(ctx, b.nameOf(method), false, err)
	}
	return route.call(ctx, args, reply, opts)
}

// NewStream begins a stream, for generated clients. Its only timeout is the deadline
// of its context. Errors are those of [Bus.Invoke].
func (b *Bus) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	route, err := b.route(ctx, method, opts)
	if err != nil {
		return nil, b.notCalled(ctx, b.nameOf(method), true, err)
	}
	return route.newStream(ctx, desc, opts)
}

// route returns the route of a method, by gRPC's path. opts are the options of the
// call.
func (b *Bus) route(ctx context.Context, path string, opts []grpc.CallOption) (*route, error) {
	if ctx == nil {
		return nil, invalid(b.nameOf(path), "the context is nil: give context.Background() if there is no other")
	}
	if found, ok := (*b.routes.Load())[path]; ok {
		return found, nil
	}
	return b.addRoute(ctx, path, opts)
}

// Close ends the bus and all its connections. Calls under way and calls of
// [Bus.Describe] fail with CANCELED. A second Close does nothing.
func (b *Bus) Close() error {
	b.closed.Store(true)
	b.fetcher.close()
	b.mu.Lock()
	apis := b.apis
	b.apis = nil // no API is added when closed is set
	b.mu.Unlock()
	var errs []error
	for _, of := range apis {
		errs = append(errs, of.close())
	}
	return errors.Join(errs...)
}

// ended reports whether Close ended a call. ctx is the program's.
func (b *Bus) ended(ctx context.Context, code codes.Code) bool {
	return (code == codes.Canceled || code == codes.Unavailable) && b.closed.Load() && ctx.Err() == nil
}
