package framework

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/named"
	"github.com/onecall-dev/onecall/internal/quote"
)

// Bus is a caller's handle on all APIs of a registry: generated clients take it
// as their connection, and it finds the API by the called method. One a process
// is enough; its methods are safe for all goroutines. Each service of an API has
// one set of connections, made at its first call, with one connection to each
// instance that serves it.
type Bus struct {
	registry discovery.Registry
	options  busOptions
	// contracts are those of the APIs that are linked into the program.
	contracts *contract.Index
	caller    *client.Caller
	throttle  throttle
	closed    atomic.Bool

	// routes is where calls go, by gRPC's path. Calls read it without a lock;
	// it is replaced, never changed, under mu.
	routes atomic.Pointer[map[string]*route]

	// byName are the RPCs that were called by name, by that name.
	byName   sync.Map // of *namedRPC
	fetching *fetching
	// incompatible counts schemas that are incompatible with the program's own.
	incompatible atomic.Uint64

	// mu guards connections and rules, by service and gRPC's path.
	mu          sync.Mutex
	connections map[connectionKey]*connection
	rules       map[string]map[string]validate.Method
	published   map[string]*published // by API
}

var _ grpc.ClientConnInterface = (*Bus)(nil)

// route is what a call of one method needs.
type route struct {
	// rpc is the bus name, such as "auth.check_password".
	rpc  string
	conn *connection
	// limit is the declared one of a unary RPC, and configured says that conn
	// holds calls to it.
	limit      timeout.Limit
	configured bool
	// rules are those of the messages.
	rules validate.Method
	// idempotent says that the RPC declares that it may run more than once.
	idempotent bool
	// listed says that the service's .proto, as the caller knows it, has the RPC, or
	// that it has answered.
	listed bool
}

// NewBus returns a bus on a registry, which stays the program's to close, after
// the bus. It does no I/O. Its errors name the parameter or option at fault.
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
		registry:    registry,
		options:     read,
		contracts:   contract.NewIndex(protoregistry.GlobalFiles),
		caller:      caller,
		fetching:    newFetching(registry),
		connections: make(map[connectionKey]*connection),
		rules:       make(map[string]map[string]validate.Method),
		published:   make(map[string]*published),
	}
	bus.throttle.start()
	bus.routes.Store(&map[string]*route{})
	return bus, nil
}

// checkDialOptions finds options that every connection would fail with, whether
// they have credentials that exclude the default ones, such as
// grpc.WithCredentialsBundle, and how large a message they let a call send.
func checkDialOptions(read *busOptions, caller *client.Caller) error {
	try := func() error {
		options, err := dialOptions(*read, caller.NewChannel(), nil)
		if err != nil {
			return err
		}
		// grpc-go calls this interceptor first, so none of the program's runs.
		options = append(options, grpc.WithUnaryInterceptor(func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			read.sendLimit = sendLimit(opts, named.DefaultLimit)
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
// declares that it may run more often; [OutcomeOf] says of an error whether it
// did.
//
// Errors are gRPC's, and: INVALID_ARGUMENT for a path, context or option that
// makes no sense, INVALID_ARGUMENT with *validate.Error for a request that breaks
// the API's rules, which is not sent, INTERNAL with *validate.Error for such a
// reply, INTERNAL for a fault in the API's .proto, UNIMPLEMENTED with
// *discovery.UnknownAPIError, UNAVAILABLE with *discovery.NoInstanceError or
// *discovery.UnreachableError, DEADLINE_EXCEEDED with *timeout.Error, CANCELED
// with [ErrClosed].
//
// errors.Is finds [context.DeadlineExceeded] or [context.Canceled] in the error if
// ctx itself had ended, and neither if a declared timeout passed.
func (b *Bus) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	route, err := b.route(ctx, method, opts)
	if err != nil {
		return err
	}
	return route.conn.invoke(ctx, route, method, args, reply, opts)
}

// NewStream begins a stream, for generated clients. It has no timeout but its
// context's deadline. Errors are those of [Bus.Invoke].
func (b *Bus) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	route, err := b.route(ctx, method, opts)
	if err != nil {
		return nil, err
	}
	return route.conn.newStream(ctx, route, desc, method, opts)
}

// Close ends the bus and all its connections. Calls that are under way, and who
// waits for a description, end with CANCELED. A second Close does nothing.
func (b *Bus) Close() error {
	b.closed.Store(true)
	b.fetching.close()
	b.mu.Lock()
	connections, followed := maps.Clone(b.connections), maps.Clone(b.published)
	clear(b.connections)
	clear(b.published)
	b.mu.Unlock()
	// Without the lock: a goroutine that is waited for may be in a log's handler,
	// which may call the bus.
	var errs []error
	for _, conn := range connections {
		errs = append(errs, conn.close())
	}
	for _, p := range followed {
		p.stop()
	}
	return errors.Join(errs...)
}

// ended tells whether it was Close that ended a call, or what it waited for. ctx
// is the caller's own.
func (b *Bus) ended(ctx context.Context, code codes.Code) bool {
	return (code == codes.Canceled || code == codes.Unavailable) && b.closed.Load() && ctx.Err() == nil
}

// route gives where calls of a method go.
func (b *Bus) route(ctx context.Context, method string, opts []grpc.CallOption) (*route, error) {
	if ctx == nil {
		return nil, invalid(b.nameOf(method), "the context is nil: give context.Background() if there is no other")
	}
	if found, ok := (*b.routes.Load())[method]; ok {
		return found, nil
	}
	return b.addRoute(ctx, method, opts)
}

// nameOf returns the bus name of a method if its service is linked into the program,
// else its path.
func (b *Bus) nameOf(method string) string {
	if found := b.contracts.Method(method); found != nil {
		return found.RPC.Name
	}
	return method
}

// rpcName returns the bus name of a method as texts show it.
func rpcName(api, method string) string { return shownName(contract.RPCName(api, method)) }

// sendLimit returns the largest message that options of a call let it send, in
// bytes, and otherwise when they do not say.
func sendLimit(opts []grpc.CallOption, otherwise int) int {
	for _, opt := range opts {
		if limit, ok := opt.(grpc.MaxSendMsgSizeCallOption); ok {
			otherwise = limit.MaxSendMsgSize
		}
	}
	return otherwise
}

// addRoute reads the contract of a method that is called for the first time. Paths
// may come from outside: only a method that the program's own .proto has is kept
// at once, and nothing at all of a service that is neither linked in nor known to
// the registry. opts are the call's.
func (b *Bus) addRoute(ctx context.Context, method string, opts []grpc.CallOption) (*route, error) {
	service, name, ok := contract.SplitMethod(method)
	if !ok {
		return nil, invalid(quote.Text(method), `this is not of gRPC's form "/package.Service/Method": call by a generated client, or by name with Call`)
	}
	if contract.IsBuiltin(service) {
		return nil, invalid(service, "this is a service of gRPC's own and of each instance, no API: Dial the API whose instances are meant")
	}
	api, err := b.contracts.Find(service)
	linked := api != nil
	if err == nil && !linked {
		api, err = contract.FromServiceDesc(&grpc.ServiceDesc{ServiceName: service})
	}
	if err != nil {
		return nil, faulty(b.nameOf(method), err)
	}
	var rules map[string]validate.Method
	if linked {
		if rules, err = b.rulesOf(api); err != nil {
			return nil, faulty(b.nameOf(method), err)
		}
	} else if err := b.everServed(ctx, api.Name, rpcName(api.Name, name), opts); err != nil {
		return nil, err
	}
	conn, err := b.connect(connectionKey{api.Name, api.Service}, rpcName(api.Name, name))
	if err != nil {
		return nil, err
	}
	added := newRoute(api, method, conn, rules[method])
	if added.listed {
		b.keep(method, added)
	}
	return added, nil
}

// keep keeps the route of a method for the calls that follow.
func (b *Bus) keep(method string, kept *route) {
	b.mu.Lock()
	defer b.mu.Unlock()
	routes := maps.Clone(*b.routes.Load())
	routes[method] = kept
	b.routes.Store(&routes)
}

// keepCalled keeps the route of a method that has answered, though the program's
// own .proto does not have it.
func (b *Bus) keepCalled(answered *route, method string) {
	kept := *answered
	kept.listed = true
	b.keep(method, &kept)
}

// everServed returns nil when an API that is not linked into the program has a
// connection, or when the registry knows it; else an error. It keeps nothing. name
// is the RPC's, opts are the call's.
func (b *Bus) everServed(ctx context.Context, api, name string, opts []grpc.CallOption) error {
	if len(b.connectionsOf(api)) > 0 {
		return nil
	}
	call, err := timeout.Begin(timeout.Declared(0, 0), opts)
	if err != nil {
		return failure{route: &route{rpc: name}, outcome: NotSent, err: err}.told()
	}
	p, err := b.follow(api)
	if err != nil {
		return err
	}
	defer b.release(api, p)
	limited, cancel := call.Context(ctx)
	defer cancel()
	defer context.AfterFunc(b.fetching.life, cancel)()
	var problem error = resolver.NewNoAnswerError(api)
	for {
		snapshot, changed := p.now()
		if snapshot != nil {
			problem = snapshot.Err()
			_, unknown := errors.AsType[*discovery.UnknownAPIError](problem)
			_, unreachable := errors.AsType[*discovery.UnreachableError](problem)
			if !unknown && !unreachable {
				return nil
			}
			if !waitsForReady(opts) {
				return b.unread(ctx, limited, name, problem)
			}
		}
		select {
		case <-changed:
		case <-limited.Done():
			return b.unread(ctx, limited, name, problem)
		}
	}
}

// waitsForReady reports whether a call waits while there is no instance.
func waitsForReady(opts []grpc.CallOption) (waits bool) {
	for _, opt := range opts {
		if failFast, ok := opt.(grpc.FailFastCallOption); ok {
			waits = !failFast.FailFast
		}
	}
	return waits
}

// newRoute makes the route of a method of an API.
func newRoute(api *contract.API, method string, conn *connection, rules validate.Method) *route {
	_, name, _ := contract.SplitMethod(method)
	added := &route{rpc: rpcName(api.Name, name), conn: conn, rules: rules, limit: timeout.Declared(0, api.Timeout)}
	for _, rpc := range api.RPCs {
		if rpc.Method == method {
			added.limit = timeout.Declared(rpc.Timeout, api.Timeout)
			added.idempotent = rpc.Idempotency != contract.IdempotencyUnknown
			added.listed = true
		}
	}
	_, added.configured = conn.limits[method]
	return added
}

// rulesOf gives the rules of an API's messages, which are compiled when it is
// called for the first time.
func (b *Bus) rulesOf(api *contract.API) (map[string]validate.Method, error) {
	b.mu.Lock()
	rules, ok := b.rules[api.Service]
	b.mu.Unlock()
	if ok {
		return rules, nil
	}
	rules, err := compileRules(api) // which takes milliseconds; another may do so meanwhile
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules[api.Service] = rules
	return rules, nil
}

// connect returns the connections to a service of an API, and makes them if there
// are none. Its error names what they are for, an RPC or an API.
func (b *Bus) connect(to connectionKey, name string) (*connection, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil, closedError(name)
	}
	if conn, ok := b.connections[to]; ok {
		return conn, nil
	}
	conn, err := newConnection(b, to)
	if err != nil {
		return nil, err
	}
	b.connections[to] = conn
	return conn, nil
}
