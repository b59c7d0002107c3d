package framework

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// defaultShutdownTimeout is that of Serve without option ShutdownTimeout.
const defaultShutdownTimeout = 25 * time.Second

// ServeOption is an option of [Serve] and [Start].
type ServeOption interface {
	applyToServe(options *serveOptions) error
}

// BusOption is an option of [NewBus] and [Dial].
type BusOption interface {
	applyToBus(options *busOptions) error
}

// Option is an option of [Serve], [Start], [NewBus] and [Dial].
type Option interface {
	ServeOption
	BusOption
}

type serveOptions struct {
	// listen is what ListenOn or Listener set; listener is that of Listener.
	listen          func(context.Context) (net.Listener, error)
	listener        net.Listener
	advertise       string
	shutdownTimeout time.Duration
	log             *slog.Logger
	observers       []Observer
	// notify notifies the observers, nil if there are none.
	notify    *notifier
	server    []grpc.ServerOption
	admission AdmissionConfig
	zone      string
	strict    bool
	// before and after are the program's interceptors before and after admission.
	before, after interceptors
	// authenticated is whether option Authenticate is set.
	authenticated bool
	exposeErrors  bool
}

type busOptions struct {
	log       *slog.Logger
	observers []Observer
	// notify notifies the observers, nil if there are none.
	notify *notifier
	dial   []grpc.DialOption
	// sendLimit is the largest request that the dial options let a call by name
	// send, in bytes; read by NewBus.
	sendLimit int
	// credentials says that dial has credentials that exclude the default ones.
	credentials bool
	plainText   plainText // the default ones
	// balancing is what LoadBalancing sets: a policy and its configuration.
	balancing map[string]json.RawMessage
	zone      string
	strict    bool
	// identified is what RequireIdentity sets.
	identified bool
	retry      RetryPolicy
}

type serveOption func(*serveOptions) error

func (o serveOption) applyToServe(options *serveOptions) error { return o(options) }

type busOption func(*busOptions) error

func (o busOption) applyToBus(options *busOptions) error { return o(options) }

// bothOption is an option of a service and a caller.
type bothOption struct {
	serveOption
	busOption
}

// ListenOn sets the TCP address to listen on, "host:port". Port 0 is any free
// port, no host is every address of this machine. The default is
// "127.0.0.1:0", which other machines cannot reach.
func ListenOn(address string) ServeOption {
	return serveOption(func(options *serveOptions) error {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf(`option ListenOn: %q is not "host:port", such as ":8443" or "127.0.0.1:0": %w`, address, err)
		}
		if options.listener != nil {
			return errListeners
		}
		options.listen = listenOn(address)
		return nil
	})
}

// errListeners is of a service with two addresses.
var errListeners = errors.New("options ListenOn and Listener: both are given: leave one out")

// Listener sets a listener to serve on, instead of [ListenOn]: one that the program
// has made, such as one in memory for tests. The service closes it, also if it
// cannot start. For a listener that is not of TCP, option [AdvertiseAs] says how
// callers reach it.
func Listener(listener net.Listener) ServeOption {
	return serveOption(func(options *serveOptions) error {
		switch {
		case listener == nil:
			return errors.New("option Listener: the listener is nil: leave the option out, or give one of net.Listen")
		case options.listener != nil:
			return errors.New("option Listener: is given twice: a service has one listener")
		}
		options.listener = listener // to be closed, also after an error
		if options.listen != nil {
			return errListeners
		}
		options.listen = func(context.Context) (net.Listener, error) { return listener, nil }
		return nil
	})
}

// closeListener closes the program's listener, if there is one.
func (o serveOptions) closeListener() error {
	if o.listener == nil {
		return nil
	}
	return o.listener.Close()
}

func listenOn(address string) func(context.Context) (net.Listener, error) {
	return func(ctx context.Context) (net.Listener, error) {
		return new(net.ListenConfig).Listen(ctx, "tcp", address)
	}
}

// AdvertiseAs sets the address at which callers reach the service, "host:port",
// when it is not the one listened on, such as behind address translation. Port
// 0 is the port listened on. The default is the address listened on, or this
// machine's first other than loopback when that is every address.
func AdvertiseAs(address string) ServeOption {
	return serveOption(func(options *serveOptions) error {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" {
			return fmt.Errorf(`option AdvertiseAs: %q is not "host:port" with a host that callers can reach, such as "10.0.0.7:8443"`, address)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("option AdvertiseAs: %q has the port %q: give a number from 0, the port listened on, to 65535", address, port)
		}
		options.advertise = address
		return nil
	})
}

// ShutdownTimeout sets how long the graceful shutdown of [Serve] may take in all;
// more than zero. The default is 25 s, below the 30 s after which Kubernetes
// kills.
//
// The shutdown begins when the context of Serve ends. Handlers learn of it by
// [Draining]. After four fifths of the timeout the contexts of streams end. A
// twentieth before its end, at most a second, all connections are closed and with
// them the calls that still run, so that their handlers can return. Serve never
// takes longer, whatever a handler does.
func ShutdownTimeout(limit time.Duration) ServeOption {
	return serveOption(func(options *serveOptions) error {
		if limit <= 0 {
			return fmt.Errorf("option ShutdownTimeout: %v is not more than zero: calls in flight need time to end", limit)
		}
		options.shutdownTimeout = limit
		return nil
	})
}

// StopWithin is the former name of [ShutdownTimeout].
//
// Deprecated: use ShutdownTimeout.
func StopWithin(limit time.Duration) ServeOption { return ShutdownTimeout(limit) }

// ServerOptions adds options of grpc-go's server, such as
// grpc.Creds for TLS or grpc.ChainUnaryInterceptor. Without credentials a
// service speaks plain text, and logs a warning unless it listens on loopback:
// grpc.Creds(insecure.NewCredentials()) says that plain text is meant.
//
// Chained interceptors are the program's own: they run around each call that is
// admitted, before its rules are checked, so that they can also authenticate and
// authorize. They see a request that breaks rules, and a panic of the handler, as an
// error. Other places are those of [BeforeAdmission] and [AfterAdmission].
// grpc.UnaryInterceptor and grpc.StreamInterceptor are the framework's and an
// error here. A grpc.InTapHandle must return a context with the call's metadata:
// without them the call has no identity.
//
// They replace the framework's defaults: a connection may have 1,000 calls under
// way (grpc.MaxConcurrentStreams) and a call 64 KiB of metadata
// (grpc.MaxHeaderListSize); it is made within 20 s (grpc.ConnectionTimeout),
// closed when its client answers no ping within 20 s after a minute of silence
// (grpc.KeepaliveParams), and its client may ping every 5 s, also without a call
// (grpc.KeepaliveEnforcementPolicy).
func ServerOptions(options ...grpc.ServerOption) ServeOption {
	return serveOption(func(o *serveOptions) error {
		o.server = append(o.server, options...)
		return nil
	})
}

// AdmissionConfig says which calls a service admits. The zero value is the
// default.
type AdmissionConfig struct {
	// RequireIdentity refuses calls without an identity, which may be copies of
	// each other: those of callers that are not on a bus. Otherwise they are
	// served.
	RequireIdentity bool
	// MaxSessionsPerPrincipal and MaxSessions are how many callers' sessions a
	// service remembers: for one TLS identity, or host without TLS, and for all;
	// 0 is 10,000 and 100,000. Each bus has one; those above are refused. A session
	// that called within the last minute takes some 1.3 KB, and an idle one, which is
	// kept for a day, some 80 bytes.
	MaxSessionsPerPrincipal, MaxSessions int
	// Ledger is asked before each identified call, which waits for it, and is
	// shared by the instances of a service, so that a proxy can be in front of them
	// that picks the instance of each call: package etcdledger has one on etcd.
	// Without it such calls are refused.
	Ledger atmostonce.Ledger
}

// Admission sets which calls a service admits.
func Admission(config AdmissionConfig) ServeOption {
	return serveOption(func(o *serveOptions) error {
		o.admission = config
		return nil
	})
}

// BeforeAdmission adds interceptors that run around the calls of APIs before they
// are admitted: those that authenticate, and those that measure or log each call.
// A call that they refuse takes no session, learns no rule and writes to no ledger.
// Given several times, they run in that order, the first outermost.
//
// Interceptors of go-grpc-middleware go in unchanged. They must call their handler
// with a context that derives from their own; [WithPrincipal] sets on it by what
// name callers are counted. The request of a unary call is nil to them, because it
// is not read yet. gRPC's own services, such as health and reflection, are
// served without them.
//
// Both parameters are required, so that streams are not forgotten. One that has
// nothing to do calls its handler.
func BeforeAdmission(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) ServeOption {
	return serveOption(func(o *serveOptions) error {
		o.before = o.before.with(unary, stream)
		return bothGiven("BeforeAdmission", unary, stream)
	})
}

// AfterAdmission adds interceptors that run around the calls of APIs after they were
// admitted, and before their rules are checked: those that authorize. They see
// what becomes of each call, such as a request that breaks rules, as an error.
// Otherwise it is like [BeforeAdmission]; the request is there.
func AfterAdmission(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) ServeOption {
	return serveOption(func(o *serveOptions) error {
		o.after = o.after.with(unary, stream)
		return bothGiven("AfterAdmission", unary, stream)
	})
}

// bothGiven returns the error of an option of which an interceptor is missing.
func bothGiven(option string, unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) error {
	if unary == nil || stream == nil {
		return fmt.Errorf("option %s: an interceptor is nil: give one for unary calls and one for streams, which calls its handler if there is nothing to do", option)
	}
	return nil
}

// Authenticate sets the function that says who calls, for unary calls and
// streams. It is an interceptor of [BeforeAdmission], in the form of
// go-grpc-middleware's auth.AuthFunc: called once for each call, before the request
// is read and before the call is admitted. Its error is the call's, so it needs a
// code, such as codes.Unauthenticated.
//
// The context that it returns is the handler's, and must derive from the one that
// it was called with. [WithPrincipal] sets on it by what name callers are counted.
// It is called from many goroutines. gRPC's own services, such as health and
// reflection, are served without it.
//
// By default only TLS authenticates. What a caller may do is for interceptors of
// [AfterAdmission].
func Authenticate(authenticate func(ctx context.Context) (context.Context, error)) ServeOption {
	return serveOption(func(o *serveOptions) error {
		switch {
		case authenticate == nil:
			return errors.New("option Authenticate: the function is nil: leave the option out to authenticate by TLS alone")
		case o.authenticated:
			return errors.New("option Authenticate: is given twice: give one function that does both")
		}
		o.authenticated = true
		o.before = o.before.with(authentication(authenticate))
		return nil
	})
}

// WithPrincipal returns a context for [Authenticate] to return, which names the
// program that calls. Its sessions are counted by that name instead of by its
// certificate or host, and are apart from those of all others. Name the program
// rather than its user: each name takes a session of its own. An empty name
// changes nothing.
func WithPrincipal(ctx context.Context, name string) context.Context {
	return server.WithPrincipal(ctx, name)
}

// ExposeErrors sends the text of a handler's error that has no gRPC status to the
// caller, with the code UNKNOWN, as grpc-go does. By default the caller gets
// INTERNAL with an incident's id, and the text goes to the log alone: such errors
// come from databases and the like, and their text is not meant for callers. An
// error of a context keeps its code either way.
func ExposeErrors() ServeOption {
	return serveOption(func(o *serveOptions) error {
		o.exposeErrors = true
		return nil
	})
}

// DialOptions adds options of grpc-go's connections, such as
// grpc.WithTransportCredentials for TLS. Without credentials a bus speaks plain
// text, and logs one warning once it connects to an instance that is not on
// loopback: insecure.NewCredentials() says that plain text is meant. With TLS the
// name in an instance's certificate is the API's, unless the credentials or
// grpc.WithAuthority say otherwise. Resolver, service config, health checks and
// retries are the framework's; options for them have no effect, and the log has a warning
// of grpc.WithDefaultServiceConfig: see [Retry] and [LoadBalancing]. The default of
// grpc.WithKeepaliveParams is a ping every 6 minutes, which all servers bear, and
// a timeout of 20 s; silent connections are found sooner without it. A bus uses no
// proxy of the environment, such as HTTPS_PROXY names: a program that wants one
// passes a grpc.WithContextDialer that connects through it.
func DialOptions(options ...grpc.DialOption) BusOption {
	return busOption(func(o *busOptions) error {
		o.dial = append(o.dial, options...)
		return nil
	})
}

// RequireIdentity has a bus call no instance that has no incarnation, such as a
// plain gRPC server's entry in the registry: calls to it carry no identity, so they
// may run more than once when a proxy or the network repeats them. Without the
// option a bus calls such instances, and logs that once for each API. A call that
// finds no other instance is not sent, and fails with FAILED_PRECONDITION and
// *[IdentityError]. The service's half is [AdmissionConfig].RequireIdentity.
func RequireIdentity() BusOption {
	return busOption(func(o *busOptions) error {
		o.identified = true
		return nil
	})
}

// Logger sets where the framework logs; the default is [slog.Default]. No
// message's content is ever logged, and of a panic only the type and the stack.
// The text of a handler's error that has no gRPC status is logged: see
// [ExposeErrors].
func Logger(log *slog.Logger) Option {
	problem := func() error {
		if log == nil {
			return errors.New("option Logger: is nil: leave it out to have slog.Default, or give slog.New(slog.DiscardHandler)")
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *serveOptions) error {
			o.log = log
			return problem()
		},
		busOption: func(o *busOptions) error {
			o.log = log
			return problem()
		},
	}
}

// Timeout returns the call option that sets how long one unary call through a bus
// may take, instead of what its .proto declares; more than zero. The caller's
// own deadline applies if it is earlier.
func Timeout(limit time.Duration) grpc.CallOption { return timeout.Option(limit) }

func newServeOptions(options []ServeOption) (serveOptions, error) {
	out := serveOptions{
		shutdownTimeout: defaultShutdownTimeout,
		log:             slog.Default(),
	}
	var errs []error
	for i, option := range options { // all of them, so that a listener is closed
		if option == nil {
			errs = append(errs, fmt.Errorf("option %d is nil: leave it out", i+1))
		} else if err := option.applyToServe(&out); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return out, errors.Join(errs...)
	}
	if out.listen == nil {
		out.listen = listenOn("127.0.0.1:0")
	}
	out.notify = newNotifier(out.log, out.observers)
	return out, nil
}

func newBusOptions(options []BusOption) (busOptions, error) {
	out := busOptions{log: slog.Default(), balancing: defaultBalancing, retry: RetryIdempotent}
	for i, option := range options {
		if option == nil {
			return out, fmt.Errorf("onecall: bus: option %d is nil: leave it out", i+1)
		}
		if err := option.applyToBus(&out); err != nil {
			return out, fmt.Errorf("onecall: bus: %w", err)
		}
	}
	out.plainText = newPlainText(out.log)
	out.notify = newNotifier(out.log, out.observers)
	return out, nil
}
