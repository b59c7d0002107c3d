package frameworktest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/contract"
)

// readyWithin is how long [New] waits until the bus is connected. It only passes if that
// never happens.
const readyWithin = 30 * time.Second

// Kit is services and their callers in memory. It is itself a connection for generated
// clients, which calls through [Kit.Bus]. Its methods are safe for all goroutines, except
// those that fail the test at once: they are for the goroutine of the test.
type Kit struct {
	tb       testing.TB
	registry *Registry
	network  *network
	marked   *marked
	log      *testLog
	logger   *slog.Logger
	// onlyFakes says that New got no service, so that each API must be faked.
	onlyFakes bool
	strikes   strikes
	records   records
	fakes     fakes

	bus        *framework.Bus
	busOptions []framework.BusOption

	mu        sync.Mutex // guards the fields below
	instances []*Instance
	closers   []func() error // of buses
}

var _ grpc.ClientConnInterface = (*Kit)(nil)

// Option is an option of [New].
type Option func(*options)

type options struct {
	serve []framework.ServeOption
	bus   []framework.BusOption
}

// ServeOptions adds options of the service that [New] starts. The kit listens and
// advertises itself: options for that have no effect or are an error.
func ServeOptions(serve ...framework.ServeOption) Option {
	return func(o *options) { o.serve = append(o.serve, serve...) }
}

// BusOptions adds options of the kit's buses and connections.
func BusOptions(bus ...framework.BusOption) Option {
	return func(o *options) { o.bus = append(o.bus, bus...) }
}

// New starts what register registers as one instance, and makes a bus that is connected to
// it. register may be nil, for a kit that has only fakes. What cannot be started fails the
// test at once.
//
// When the test ends, the kit ends the bus and all services, and fails the test if
//   - a goroutine of a handler or of the kit still runs,
//   - a fault never struck: see [Kit.Inject].
//
// The log of the kit is part of the test's output.
func New(tb testing.TB, register func(apis grpc.ServiceRegistrar), opts ...Option) *Kit {
	tb.Helper()
	var read options
	for _, option := range opts {
		option(&read)
	}
	kit := &Kit{
		tb: tb, registry: newRegistry(), network: newNetwork(), marked: newMarked(),
		log: &testLog{to: tb.Output()}, onlyFakes: register == nil,
	}
	kit.logger = slog.New(slog.NewTextHandler(kit.log, nil))
	kit.strikes.kit, kit.fakes.kit = kit, kit
	kit.busOptions = slices.Concat([]framework.BusOption{framework.Logger(kit.logger)}, read.bus)
	tb.Cleanup(kit.close)
	kit.bus = kit.NewBus()
	if register != nil {
		kit.connect(kit.Serve(register, read.serve...))
	}
	return kit
}

// connect waits until the bus is connected to the APIs of an instance.
func (k *Kit) connect(to *Instance) {
	k.tb.Helper()
	ctx, cancel := context.WithTimeout(k.tb.Context(), readyWithin)
	defer cancel()
	var err error
	k.do(func() { err = k.bus.Ready(ctx, to.apis()...) })
	if err != nil {
		k.tb.Fatalf("frameworktest: the bus cannot be connected to the service: %v", err)
	}
}

// Bus returns the bus of the kit.
func (k *Kit) Bus() *framework.Bus { return k.bus }

// NewBus returns another bus, which ends with the test. Each bus has a session of its own.
func (k *Kit) NewBus(options ...framework.BusOption) *framework.Bus {
	k.tb.Helper()
	bus, err := framework.NewBus(k.registry, k.withNetwork(options)...)
	if err != nil {
		k.tb.Fatalf("frameworktest: %v", err)
	}
	k.closeLater(bus.Close)
	return bus
}

// Dial returns a connection to one API, by its bus name, which ends with the test.
func (k *Kit) Dial(api string, options ...framework.BusOption) *framework.Conn {
	k.tb.Helper()
	conn, err := framework.Dial(k.registry, api, k.withNetwork(options)...)
	if err != nil {
		k.tb.Fatalf("frameworktest: %v", err)
	}
	k.closeLater(conn.Close)
	return conn
}

// withNetwork returns the options of a bus that connects in memory. The kit's interceptors
// are the innermost.
func (k *Kit) withNetwork(options []framework.BusOption) []framework.BusOption {
	return slices.Concat(k.busOptions, options, []framework.BusOption{
		framework.DialOptions(
			grpc.WithContextDialer(k.network.dial),
			grpc.WithChainUnaryInterceptor(k.strikes.unary),
			grpc.WithChainStreamInterceptor(k.strikes.stream)),
		framework.Observe((*unfakedAPIs)(k)),
	})
}

func (k *Kit) closeLater(closer func() error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closers = append(k.closers, closer)
}

// Serve starts another instance, which ends with the test: of another service, or of one
// that runs already. An error fails the test at once.
func (k *Kit) Serve(register func(apis grpc.ServiceRegistrar), options ...framework.ServeOption) *Instance {
	k.tb.Helper()
	i := &Instance{kit: k, register: register, options: options, address: k.network.newAddress()}
	if err := i.start(); err != nil {
		k.tb.Fatalf("frameworktest: %v", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.instances = append(k.instances, i)
	return i
}

// Instances returns the instances that were started, in that order. Those of fakes are
// among them.
func (k *Kit) Instances() []*Instance {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.instances)
}

// Registry returns the registry of the kit, which a test can make unreachable.
func (k *Kit) Registry() *Registry { return k.registry }

// Invoke implements [grpc.ClientConnInterface]: it calls through the bus.
func (k *Kit) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if name(ctx, method) {
		return errNamed
	}
	return k.bus.Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements [grpc.ClientConnInterface]: it calls through the bus.
func (k *Kit) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if name(ctx, method) {
		return nil, errNamed
	}
	return k.bus.NewStream(ctx, desc, method, opts...)
}

// close ends everything, and fails the test if something is left over.
func (k *Kit) close() {
	k.mu.Lock()
	closers, instances := k.closers, k.instances
	k.mu.Unlock()
	for _, closer := range closers {
		if err := closer(); err != nil {
			k.tb.Errorf("frameworktest: closing a bus: %v", err)
		}
	}
	for _, instance := range instances {
		instance.close()
	}
	k.network.end()
	k.strikes.close()
	k.marked.check(k.tb)
	k.log.close()
}

// do runs f on another goroutine, so that the goroutines which it starts count as the
// kit's: see [marked].
func (k *Kit) do(f func()) {
	k.tb.Helper()
	if !k.marked.do(f) { // f ended its goroutine, as t.FailNow does: so must this one
		if k.tb.Skipped() {
			k.tb.SkipNow()
		}
		k.tb.FailNow()
	}
}

// contracts finds the RPCs that are linked into the program. It is a cache.
var contracts = sync.OnceValue(newIndex)

// methodOf returns the RPC that a test names: by its bus name, gRPC's path, or as the method
// of a generated client of the kit.
func (k *Kit) methodOf(rpc any) *contract.Method {
	k.tb.Helper()
	path, err := pathOf(rpc)
	if err != nil {
		k.tb.Fatalf("frameworktest: %v", err)
	}
	found := contracts().Method(path)
	if found == nil {
		found = contracts().RPC(path)
	}
	if found == nil {
		k.tb.Fatalf("frameworktest: no RPC %q is linked into the test: "+
			"give a method of a generated client, a bus name such as auth.check_password, or gRPC's path, and import its generated code", path)
	}
	return found
}
