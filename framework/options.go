package framework

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	admission "github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// defaultShutdownTimeout is the shutdown timeout without option ShutdownTimeout.
const defaultShutdownTimeout = 25 * time.Second

// ServeOption is an option of [Serve] and [Start].
type ServeOption interface {
	applyToServe(options *server.Options) error
}

// BusOption is an option of [NewBus] and [Dial].
type BusOption interface {
	applyToBus(options *client.Options) error
}

// Option is an option of [Serve], [Start], [NewBus] and [Dial].
type Option interface {
	ServeOption
	BusOption
}

type serveOption func(*server.Options) error

func (o serveOption) applyToServe(options *server.Options) error { return o(options) }

type busOption func(*client.Options) error

func (o busOption) applyToBus(options *client.Options) error { return o(options) }

// bothOption is an option of both a service and a bus.
type bothOption struct {
	serveOption
	busOption
}

// ListenOn sets the TCP address to listen on, "host:port". Port 0 means any free
// port, an empty host means every address of this machine. The default is
// "127.0.0.1:0", which other machines cannot reach.
func ListenOn(address string) ServeOption {
	return serveOption(func(options *server.Options) error {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf(`option ListenOn: %q is not "host:port", such as ":8443" or "127.0.0.1:0": %w`, address, err)
		}
		if options.Listener != nil {
			return errListeners
		}
		options.Listen = listenOn(address)
		return nil
	})
}

// errListeners is the error of a service with two addresses.
var errListeners = errors.New("options ListenOn and Listener: both are given: leave one out")

// Listener sets a listener to serve on, which the program has made, such as one in
// memory for tests. It replaces [ListenOn]. The service closes the listener, also if
// the service cannot start. If it is not a TCP listener, set the address at which
// callers reach it with [AdvertiseAs].
func Listener(listener net.Listener) ServeOption {
	return serveOption(func(options *server.Options) error {
		switch {
		case listener == nil:
			return errors.New("option Listener: the listener is nil: leave the option out, or give one of net.Listen")
		case options.Listener != nil:
			return errors.New("option Listener: is given twice: a service has one listener")
		}
		options.Listener = listener // to be closed, also after an error
		if options.Listen != nil {
			return errListeners
		}
		options.Listen = func(context.Context) (net.Listener, error) { return listener, nil }
		return nil
	})
}

func listenOn(address string) func(context.Context) (net.Listener, error) {
	return func(ctx context.Context) (net.Listener, error) {
		return new(net.ListenConfig).Listen(ctx, "tcp", address)
	}
}

// AdvertiseAs sets the address at which callers reach the service, "host:port". It is
// needed if the service listens on another address, such as behind address
// translation. Port 0 means the port that the service listens on. The default is the
// address that it listens on. If that is every address, the default is the first
// address of this machine that is not loopback.
func AdvertiseAs(address string) ServeOption {
	return serveOption(func(options *server.Options) error {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" {
			return fmt.Errorf(`option AdvertiseAs: %q is not "host:port" with a host that callers can reach, such as "10.0.0.7:8443"`, address)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("option AdvertiseAs: %q has the port %q: give a number from 0, the port listened on, to 65535", address, port)
		}
		options.AdvertiseAs = address
		return nil
	})
}

// ShutdownTimeout sets how long the whole graceful shutdown of [Serve] may take. It
// must be more than zero. The default is 25 s: Kubernetes kills after 30 s.
//
// The shutdown begins when the context of Serve ends. Handlers can see it by
// [Draining]. After four fifths of the timeout the contexts of streams end. Before
// the end of the timeout, by a twentieth of it or a second if that is less, all
// connections are closed. This ends the calls that still run, and their handlers have
// the rest of the time to return. Serve never takes longer than the timeout, also if
// handlers do not return.
func ShutdownTimeout(limit time.Duration) ServeOption {
	return serveOption(func(options *server.Options) error {
		if limit <= 0 {
			return fmt.Errorf("option ShutdownTimeout: %v is not more than zero: calls in flight need time to end", limit)
		}
		options.ShutdownTimeout = limit
		return nil
	})
}

// StopWithin is the former name of [ShutdownTimeout].
//
// Deprecated: use ShutdownTimeout.
func StopWithin(limit time.Duration) ServeOption { return ShutdownTimeout(limit) }

// ServerOptions adds options of grpc-go's server, such as
// grpc.ChainUnaryInterceptor, or grpc.Creds for credentials of the program's own. Option
// [TLS] has credentials from files. Without credentials a service speaks plain text: see
// [Insecure].
//
// Chained interceptors run around each admitted call, before its rules are checked,
// so they can also authenticate and authorize. If a request breaks rules or the
// handler panics, they see an error. [BeforeAdmission] and [AfterAdmission] add
// interceptors at other points of the chain. The framework itself uses
// grpc.UnaryInterceptor and grpc.StreamInterceptor: here they are an error. A
// grpc.InTapHandle must return a context with the call's metadata. Without the
// metadata the call has no identity.
//
// These options replace the framework's, which have their own options:
//   - grpc.MaxConcurrentStreams: see [MaxCallsPerConnection].
//   - grpc.MaxHeaderListSize: see [MaxMetadataSize].
//   - grpc.MaxRecvMsgSize: see [MaxMessageSize].
//   - grpc.InitialWindowSize and grpc.InitialConnWindowSize: see [StreamWindow].
//   - grpc.ConnectionTimeout: see [HandshakeTimeout].
//   - grpc.KeepaliveParams: see [Keepalive] and [MaxConnectionAge].
//   - grpc.KeepaliveEnforcementPolicy: a client may ping every 5 s, also without a
//     call.
func ServerOptions(options ...grpc.ServerOption) ServeOption {
	return serveOption(func(o *server.Options) error {
		o.Server = append(o.Server, options...)
		return nil
	})
}

// AdmissionConfig says which calls a service admits. The zero value is the
// default.
type AdmissionConfig struct {
	// RequireIdentity refuses calls without an identity. They come from callers that
	// do not use a bus, and one may be a copy of another. The default is to serve
	// them.
	RequireIdentity bool
	// MaxSessionsPerPrincipal and MaxSessions limit how many sessions of callers a
	// service remembers: for one TLS identity, or for one host without TLS, and in
	// all. 0 means 10,000 and 100,000. Each bus has one session. The service refuses
	// calls of further sessions. A session that called within the last minute takes
	// about 1.3 KB. An idle session takes about 80 bytes, and is kept for a day.
	MaxSessionsPerPrincipal, MaxSessions int
	// Ledger is used before each call with an identity, and the call waits for it.
	// The instances of a service share it, so that a proxy in front of them can pick
	// the instance of each call. Package etcdledger has a ledger in etcd. Without a
	// ledger an instance refuses calls that are bound to another instance. If the
	// ledger is an [atmostonce.SettlingLedger], as that in etcd is, each instance
	// answers what became of a call that any of them served.
	Ledger atmostonce.Ledger
	// MaxKept is how many bytes of memory a service uses at most to keep the replies
	// and errors of calls for callers that did not receive them. When it is full, the
	// oldest go, first those whose caller most likely received them. 0 means 64 MiB.
	MaxKept int
	// MaxKeptPerSession is how many bytes the replies and errors of one session may
	// take whose caller most likely received them. They are kept for 10 s. Of those
	// that are larger, each session keeps the newest, up to a sixteenth of MaxKept.
	// 0 means 64 KiB.
	MaxKeptPerSession int
	// KeepLost is how long the reply or error of a call is kept whose caller had gone
	// when the call ended, or asks for it. It is rounded down to seconds, and is at
	// least one. 0 means 10 minutes.
	KeepLost time.Duration
}

// Admission sets which calls a service admits.
func Admission(config AdmissionConfig) ServeOption {
	return serveOption(func(o *server.Options) error {
		o.RequireIdentity = config.RequireIdentity
		o.MaxSessionsPerPrincipal, o.MaxSessions = config.MaxSessionsPerPrincipal, config.MaxSessions
		o.Ledger = config.Ledger
		o.MaxKept, o.MaxKeptPerSession, o.KeepLost = config.MaxKept, config.MaxKeptPerSession, config.KeepLost
		return nil
	})
}

// BeforeAdmission adds interceptors that run around the calls of APIs before the
// calls are admitted. It is the point for interceptors that authenticate, measure or
// log each call. If they refuse a call, it takes no session, its caller learns no
// rule, and the ledger records nothing. If the option is set several times, the
// interceptors run in the order of the options, the first outermost.
//
// Interceptors of go-grpc-middleware work unchanged. An interceptor must call its
// handler with a context that derives from its own. [WithPrincipal] sets the name
// by which the caller is counted on that context. The request of a unary call is nil,
// because it is not read yet. The interceptors do not run for gRPC's own services,
// such as health and reflection.
//
// Both parameters are required, so that streams are not forgotten. An interceptor
// that has nothing to do calls its handler.
func BeforeAdmission(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) ServeOption {
	return serveOption(func(o *server.Options) error {
		o.Before = o.Before.With(unary, stream)
		return bothGiven("BeforeAdmission", unary, stream)
	})
}

// AfterAdmission adds interceptors that run around the calls of APIs after the calls
// are admitted and before their rules are checked. It is the point for interceptors
// that authorize. They see the result of each call: if a request breaks rules, they
// see an error. Otherwise the option is like [BeforeAdmission], except that the
// request of a unary call is set.
func AfterAdmission(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) ServeOption {
	return serveOption(func(o *server.Options) error {
		o.After = o.After.With(unary, stream)
		return bothGiven("AfterAdmission", unary, stream)
	})
}

// bothGiven returns an error if one of an option's two interceptors is nil.
func bothGiven(option string, unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) error {
	if unary == nil || stream == nil {
		return fmt.Errorf("option %s: an interceptor is nil: give one for unary calls and one for streams, which calls its handler if there is nothing to do", option)
	}
	return nil
}

// Authenticate sets the function that authenticates the caller of unary calls and
// streams. It runs as an interceptor of [BeforeAdmission], in the form of
// go-grpc-middleware's auth.AuthFunc: it is called once for each call, before the
// request is read and before the call is admitted. If it returns an error, the call
// fails with that error, so the error needs a code, such as codes.Unauthenticated.
//
// The handler gets the returned context, which must derive from the context of the
// function. [WithPrincipal] sets the name by which the caller is counted on it.
// The function is called from many goroutines. It is not called for gRPC's own
// services, such as health and reflection.
//
// By default only TLS authenticates. Authorize in interceptors of [AfterAdmission].
func Authenticate(authenticate func(ctx context.Context) (context.Context, error)) ServeOption {
	return serveOption(func(o *server.Options) error {
		switch {
		case authenticate == nil:
			return errors.New("option Authenticate: the function is nil: leave the option out to authenticate by TLS alone")
		case o.Authenticated:
			return errors.New("option Authenticate: is given twice: give one function that does both")
		}
		o.Authenticated = true
		o.Before = o.Before.With(server.Authentication(authenticate))
		return nil
	})
}

// WithPrincipal returns a context with the name of the calling program, for
// [Authenticate] to return. The sessions of that program are counted by this name
// instead of by its certificate or host, and are separate from all other sessions.
// Name the program, not its user: each name takes a session of its own. An empty
// name changes nothing.
func WithPrincipal(ctx context.Context, name string) context.Context {
	return admission.WithPrincipal(ctx, name)
}

// ExposeErrors sends the text of a handler's error that has no gRPC status to the
// caller, with the code UNKNOWN, as grpc-go does. By default the caller gets
// INTERNAL with the id of an incident, and only the log has the text: such errors
// come from databases and the like, and their text is not meant for callers. The
// error of a context keeps its code with and without this option.
func ExposeErrors() ServeOption {
	return serveOption(func(o *server.Options) error {
		o.ExposeErrors = true
		return nil
	})
}

// DialOptions adds options of grpc-go's connections, such as
// grpc.WithTransportCredentials for credentials of the program's own. Option [TLS] has
// credentials from files. Without credentials a bus speaks plain text: see [Insecure].
// With TLS an instance's certificate must have the API's name, unless the credentials or
// grpc.WithAuthority set another.
//
// The framework sets resolver, service config, health checks and retries. Options for
// them have no effect, and grpc.WithDefaultServiceConfig also logs a warning: see
// [Retry] and [LoadBalancing]. Options of grpc-go for the limits of connections replace
// those of [Keepalive], [ConnectBackoff], [HandshakeTimeout], [MaxMessageSize],
// [MaxMetadataSize] and [StreamWindow]. The bus does not use a proxy of the environment,
// such as HTTPS_PROXY: to use one, pass a grpc.WithContextDialer that connects through it.
func DialOptions(options ...grpc.DialOption) BusOption {
	return busOption(func(o *client.Options) error {
		o.Dial = append(o.Dial, options...)
		return nil
	})
}

// RequireIdentity forbids a bus to call an instance that has no incarnation, such as
// a plain gRPC server that is registered. Calls to such an instance carry no
// identity, so they may run more than once if a proxy or the network repeats them.
// Without the option a bus calls these instances, and logs that once for each API.
// If there is no other instance, a call is not sent, and fails with
// FAILED_PRECONDITION and *[IdentityError]. The same option of a service is
// [AdmissionConfig].RequireIdentity.
func RequireIdentity() BusOption {
	return busOption(func(o *client.Options) error {
		o.RequireIdentity = true
		return nil
	})
}

// StrictSchema refuses messages and instances that do not fit the program's schemas.
//
// A bus does not call an instance whose schema is incompatible with the program's
// own. If there is no other instance, calls fail with a *[SchemaError]. Without the
// option the bus logs the difference once and calls the instance.
//
// A service refuses requests that have fields which its schema does not know, with
// INVALID_ARGUMENT. Without the option it ignores such fields.
func StrictSchema() Option {
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.StrictSchema = true
			return nil
		},
		busOption: func(o *client.Options) error {
			o.StrictSchema = true
			return nil
		},
	}
}

// Logger sets the logger of the framework. The default is [slog.Default]. The
// framework never logs the content of a message. It logs only the type and the stack
// of a panic. It logs the text of a handler's error that has no gRPC status: see
// [ExposeErrors].
func Logger(log *slog.Logger) Option {
	problem := func() error {
		if log == nil {
			return errors.New("option Logger: is nil: leave it out to have slog.Default, or give slog.New(slog.DiscardHandler)")
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Log = log
			return problem()
		},
		busOption: func(o *client.Options) error {
			o.Log = log
			return problem()
		},
	}
}

// Timeout returns the call option that sets how long one unary call through a bus may
// take. It replaces the timeout that the .proto declares, and must be more than zero.
// The deadline of the call's context applies if it is earlier.
func Timeout(limit time.Duration) grpc.CallOption { return timeout.Option(limit) }

func newServeOptions(options []ServeOption) (server.Options, error) {
	out := server.Options{Log: slog.Default(), Limits: server.DefaultLimits(), InFlight: make(map[string]int)}
	var errs []error
	apply := func(options []ServeOption) {
		for i, option := range options { // all of them, so that a listener is closed
			if option == nil {
				errs = append(errs, fmt.Errorf("option %d is nil: leave it out", i+1))
			} else if err := option.applyToServe(&out); err != nil {
				errs = append(errs, err)
			}
		}
	}
	apply(options)
	if variables, err := readEnvironment(options); err != nil {
		errs = append(errs, err)
	} else {
		apply(variables.serve(out))
	}
	if out.Listen == nil {
		out.Listen = listenOn("127.0.0.1:0")
	}
	if out.ShutdownTimeout == 0 {
		out.ShutdownTimeout = defaultShutdownTimeout
	}
	errs = append(errs, oneSecurity(out.TLS, out.Insecure))
	return out, errors.Join(errs...)
}

func newBusOptions(options []BusOption) (client.Options, error) {
	out := client.DefaultOptions()
	out.Incoming = admission.Incoming
	apply := func(options []BusOption) error {
		for i, option := range options {
			if option == nil {
				return fmt.Errorf("option %d is nil: leave it out", i+1)
			}
			if err := option.applyToBus(&out); err != nil {
				return err
			}
		}
		return nil
	}
	err := apply(options)
	if err == nil {
		var variables environment
		if variables, err = readEnvironment(options); err == nil {
			err = apply(variables.bus(out))
		}
	}
	if err == nil {
		err = oneSecurity(out.TLS, out.Insecure)
	}
	if err != nil {
		return out, fmt.Errorf("onecall: bus: %w", err)
	}
	return out, nil
}
