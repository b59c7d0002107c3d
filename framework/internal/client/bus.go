package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/admin"
	"github.com/onecall-dev/onecall/framework/internal/ended"
	"github.com/onecall-dev/onecall/framework/internal/meter"
	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/framework/internal/plaintext"
	"github.com/onecall-dev/onecall/framework/internal/schemas"
	"github.com/onecall-dev/onecall/framework/internal/tlsfiles"
	"github.com/onecall-dev/onecall/framework/internal/unixsocket"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/schema"
)

// Bus makes the calls of a framework.Bus. Its methods are safe for all goroutines.
type Bus struct {
	registry discovery.Registry
	options  Options
	// contracts are the contracts of the APIs that are linked into the program.
	contracts *contract.Index
	caller    *client.Caller
	askers    askers
	throttle  throttle
	closed    atomic.Bool
	// unwatch ends the watch of the files of option TLS.
	unwatch func()

	// routes are by gRPC's path. Calls read them without a lock. The map is never
	// changed: it is replaced, under mu.
	routes atomic.Pointer[map[string]*Route]

	// byName are the RPCs that were called by name, by that name.
	byName  sync.Map // of *byNameRPC
	fetcher *schemas.Fetcher
	// meters count calls, nil without metrics. uncollect ends the collection of metrics.
	meters    *meter.Set
	uncollect func()
	closeLog  func() // ends the log of calls
	// admin is the part in the status page, nil if there is none.
	admin *admin.Member
	// settled counts the calls that were settled, by what was learned.
	settled [len(learned)]atomic.Uint64
	// incompatible counts schemas that are incompatible with the program's own.
	incompatible atomic.Uint64

	// mu guards apis, the fields of an api whose comments name it, and the replacement
	// of routes. It is not held while the registry or the program's logger is called.
	mu   sync.Mutex
	apis map[string]*api // by bus name
}

// NewBus returns a bus on a registry. It reads the files of option TLS and does no other
// I/O.
func NewBus(registry discovery.Registry, options Options) (*Bus, error) {
	if options.Unpack == nil {
		options.Unpack = schema.Unpack
	}
	options.plainText = plaintext.New(options.Insecure)
	options.notify = notifier.New(options.Log, options.Observers)
	if unixsocket.Supported && !options.NoSocket {
		options.dialer = unixsocket.NewDialer(options.Log)
	}
	caller := client.NewCaller()
	if err := secure(&options); err != nil {
		return nil, err
	}
	if err := checkDialOptions(&options, caller); err != nil {
		return nil, err
	}
	options.links = options.InProcess && mayLink(options.Log, options.Dial)
	member, err := openAdmin(&options)
	if err != nil {
		return nil, err
	}
	if options.LogCalls {
		options.callLog = ended.NewLog(options.Log)
		options.Watchers = append(options.Watchers, options.callLog)
	}
	bus := &Bus{
		registry:  registry,
		options:   options,
		contracts: contract.NewIndex(protoregistry.GlobalFiles),
		caller:    caller,
		fetcher:   schemas.NewFetcher(registry, options.Unpack),
		meters:    meter.NewSet(meter.Client, options.Metrics),
		apis:      make(map[string]*api),
	}
	bus.askers = askers{bus: bus, open: make(map[askerKey]*asker)}
	bus.throttle.start()
	bus.routes.Store(&map[string]*Route{})
	bus.admin = member
	member.ShowBus(bus)
	bus.closeLog = sync.OnceFunc(options.callLog.Close)
	bus.uncollect = meter.Collect(options.Metrics, bus, registry)
	bus.unwatch = options.identity.Watch()
	return bus, nil
}

// secure sets the credentials of the bus.
func secure(read *Options) (err error) {
	read.credentials = hasCredentials(read.Dial)
	switch {
	case read.TLS == nil, read.credentials && read.TLS.Default:
		return nil
	case read.credentials:
		return errors.New("onecall: bus: option TLS: option DialOptions has credentials too, such as grpc.WithTransportCredentials: leave one out")
	}
	if read.identity, err = tlsfiles.New(*read.TLS, read.Log, read.notify); err != nil {
		return fmt.Errorf("onecall: bus: option TLS: %w", err)
	}
	return nil
}

// openAdmin opens the part of a bus in the status page, if there is one.
func openAdmin(options *Options) (*admin.Member, error) {
	if options.Admin == nil {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	var err error
	if options.Metrics, err = options.Admin.Metrics(options.Metrics); err != nil {
		return nil, fmt.Errorf("onecall: bus: %w", err)
	}
	options.Watchers = append(options.Watchers, options.Admin.Watcher())
	member, err := options.Admin.Open(options.Log)
	if err != nil {
		return nil, fmt.Errorf("onecall: bus: %w", err)
	}
	return member, nil
}

// checkDialOptions returns an error if every connection would fail with the dial
// options. It sets the largest messages that a call may send and receive.
func checkDialOptions(read *Options, caller *client.Caller) error {
	warnOfServiceConfig(read.Log, read.Dial)
	options, err := dialOptions(*read, caller.NewChannel(), nil)
	if err != nil {
		return err
	}
	// grpc-go calls this interceptor first, so none of the program's runs.
	options = append(options, grpc.WithUnaryInterceptor(func(_ context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		read.sendLimit = client.SendLimit(opts, encode.DefaultLimit)
		read.replyLimit = replyLimit(opts)
		return nil
	}))
	conn, err := grpc.NewClient("passthrough:///check", options...) // does no I/O
	if err != nil {
		return fmt.Errorf("onecall: bus: option DialOptions: %w", err)
	}
	return errors.Join(conn.Invoke(context.Background(), "/check", nil, nil), conn.Close())
}

// Close ends the bus and all its connections. Calls under way fail with CANCELED. A second
// Close does nothing.
func (b *Bus) Close() error {
	if !b.closed.Swap(true) {
		b.unwatch()
	}
	b.uncollect() // while the APIs are known
	b.fetcher.Close()
	b.askers.close()
	b.mu.Lock()
	apis := b.apis
	b.apis = nil // no API is added when closed is set
	b.mu.Unlock()
	var errs []error
	for _, of := range apis {
		errs = append(errs, of.close())
	}
	b.closeLog()
	b.admin.Close()
	return errors.Join(errs...)
}

// now returns the time if anything observes calls.
func (b *Bus) now() (now time.Time) {
	if b.options.notify != nil || b.meters != nil || b.options.Tracer != nil || len(b.options.Watchers) > 0 {
		now = time.Now()
	}
	return now
}

// ended reports whether Close ended a call. ctx is the program's.
func (b *Bus) ended(ctx context.Context, code codes.Code) bool {
	return (code == codes.Canceled || code == codes.Unavailable) && b.closed.Load() && ctx.Err() == nil
}
