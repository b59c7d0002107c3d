package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/admin"
	"github.com/onecall-dev/onecall/framework/internal/meter"
	"github.com/onecall-dev/onecall/framework/internal/plaintext"
	"github.com/onecall-dev/onecall/framework/internal/schemas"
	"github.com/onecall-dev/onecall/framework/internal/tlsfiles"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/inprocess"
)

// Service is a running service. Its methods are safe for all goroutines.
type Service struct {
	apis        *apis
	registry    discovery.Registry
	options     Options
	incarnation discovery.Incarnation
	chain       *chain
	guard       *server.Server
	server      *grpc.Server
	// local serves calls of this process, nil if they go over the network.
	local    *inprocess.Server
	health   *health.Server
	underWay *underWay
	identity *tlsfiles.Identity // nil without option TLS
	// authorization is nil without a policy.
	authorization *authorization
	// schemas waits for the schemas to publish, by API. newServer sets it.
	schemas func() map[string]published

	life context.Context //nolint:containedctx // that of the service: it shuts down when it ends
	stop context.CancelFunc
	// killed ends if the service is to end without a shutdown: see [WithKill].
	killed context.Context //nolint:containedctx // part of its life

	// uncollect ends the collection of metrics. Start sets it.
	uncollect func()
	drain     drain
	// admin is the part in the status page, nil if there is none.
	admin *admin.Member

	// begin sets these.
	listener     *handover
	socket       *handover // that of the unix socket, nil if there is none
	address      string
	registered   []discovery.Instance
	connections  *connections
	registration discovery.Registration
	// served receives the error of accepting connections, once for each listener.
	served chan error

	done chan struct{} // closed when Run has returned
	err  error         // the error of Wait; set before done is closed
}

func newService(ctx context.Context, registry discovery.Registry, options Options) *Service {
	s := &Service{
		apis:        &apis{log: options.Log},
		registry:    registry,
		options:     options,
		incarnation: discovery.NewIncarnation(),
		health:      health.NewServer(),
		killed:      killOf(ctx),
		served:      make(chan error, 2),
		done:        make(chan struct{}),
	}
	s.life, s.stop = context.WithCancel(ctx)
	return s
}

// Address returns the address at which callers reach the service, "host:port".
func (s *Service) Address() string { return s.address }

// Stop begins the graceful shutdown, waits for its end, and returns its error. If ctx ends
// first, Stop returns the error of ctx, and the shutdown goes on.
func (s *Service) Stop(ctx context.Context) error {
	s.stop()
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("onecall: service: the shutdown has not ended yet, and goes on: %w", ctx.Err())
	}
}

// Done returns a channel that is closed when the service has ended.
func (s *Service) Done() <-chan struct{} { return s.done }

// Wait waits until the service has ended, and returns its error.
func (s *Service) Wait() error {
	<-s.done
	return s.err
}

// Start returns a service of the APIs that register registers. It accepts connections and
// has begun to register. The caller must call Run.
func Start(ctx context.Context, registry discovery.Registry, register func(apis grpc.ServiceRegistrar), options Options) (*Service, error) {
	if options.Admin != nil {
		var err error
		if options.Metrics, err = options.Admin.Metrics(options.Metrics); err != nil {
			return nil, errors.Join(err, options.CloseListener())
		}
		options.Watchers = append(options.Watchers, options.Admin.Watcher())
	}
	options = options.prepared()
	s := newService(ctx, registry, options)
	started := false
	defer func() {
		if !started {
			s.abandon() // also if register or the logger ended this goroutine
		}
	}()
	register(s.apis)
	err := errors.Join(s.apis.check(), options.checkShutdown())
	if err == nil {
		err = s.newServer()
	}
	if err == nil {
		s.admin, err = options.Admin.Open(options.Log)
	}
	if err == nil {
		err = s.begin()
	}
	if err != nil {
		return nil, err
	}
	started = true
	s.admin.ShowService(s)
	s.uncollect = meter.Collect(options.Metrics, s, registry)
	return s, nil
}

// newServer makes grpc-go's server with all services.
func (s *Service) newServer() (err error) {
	defer func() {
		// grpc-go panics if an interceptor is set twice.
		if cause := recover(); cause != nil {
			err = fmt.Errorf("option ServerOptions: %v; give grpc.ChainUnaryInterceptor or grpc.ChainStreamInterceptor instead", cause)
		}
	}()
	contracts := s.apis.contracts()
	s.schemas = s.publish(contracts) // while the rules are compiled
	rules := make(map[string]validate.Method)
	for _, api := range contracts {
		compiled, wrong := schemas.CompileRules(api)
		if wrong != nil {
			return wrong
		}
		maps.Copy(rules, compiled)
	}
	s.underWay = newUnderWay(contracts)
	if err := s.underWay.limitCalls(contracts, s.options.InFlight); err != nil {
		return err
	}
	declared := limited(contracts)
	if err := s.options.Limits.checkGrace(declared); err != nil {
		return err
	}
	if s.authorization, err = newAuthorization(s.options, s.apis.callable()); err != nil {
		return err
	}
	chain, err := newChain(s.options, s.incarnation, s.underWay, declared, rules, outliving(contracts), s.authorization)
	if err != nil {
		return err
	}
	s.chain, s.guard = chain, chain.guard
	if err := s.listenSecurely(chain); err != nil {
		return err
	}
	s.local = s.serveInProcess()
	s.apis.serveOn(s.server, func(of service) *grpc.ServiceDesc {
		if of.api == nil {
			return chain.builtin(of.desc)
		}
		s.underWay.add(of.desc)
		served := chain.service(of.desc)
		s.local.Register(served, of.impl)
		return served
	})
	s.server.RegisterService(chain.settling(), nil)
	if !s.apis.has(grpc_health_v1.Health_ServiceDesc.ServiceName) {
		s.server.RegisterService(chain.builtin(&grpc_health_v1.Health_ServiceDesc), s.health)
	}
	s.health.SetServingStatus(RegistrationHealth, grpc_health_v1.HealthCheckResponse_NOT_SERVING) // until follow sets it
	for _, api := range contracts {
		s.health.SetServingStatus(api.Name, grpc_health_v1.HealthCheckResponse_SERVING)
		s.health.SetServingStatus(api.Service, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	return nil
}

// listenSecurely makes grpc-go's server with its credentials.
func (s *Service) listenSecurely(chain *chain) (err error) {
	o := &s.options
	served := s.takeOffers(chain.served)
	if o.TLS == nil {
		s.server = grpc.NewServer(chain.options(*o, served)...)
		return nil
	}
	if s.identity, err = tlsfiles.New(*o.TLS, o.Log, o.notify); err != nil {
		return fmt.Errorf("option TLS: %w", err)
	}
	files := s.identity.Credentials()
	o.Server = append([]grpc.ServerOption{grpc.Creds(files)}, o.Server...)
	s.server = grpc.NewServer(chain.options(*o, served)...)
	switch {
	case !plaintext.Replaced(s.server, files):
		return nil
	case o.TLS.Default:
		s.identity = nil
		return nil
	default:
		return errors.New("option TLS: option ServerOptions has grpc.Creds too: leave one out")
	}
}

// begin listens, accepts connections and registers.
func (s *Service) begin() error {
	listener, err := s.options.Listen(s.life)
	if err != nil {
		return fmt.Errorf("option ListenOn: cannot listen: %w: end what listens there, or give an address of this machine with a free port, such as 127.0.0.1:0", err)
	}
	if s.address, err = advertised(listener, s.options.AdvertiseAs); err != nil {
		return errors.Join(err, listener.Close())
	}
	if s.options.TLS == nil && !s.options.Insecure {
		if err := plaintext.Check(s.server, listener.Addr()); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	s.connections = newConnections(s.options.Limits, s.options.Log)
	if s.listener, err = s.accept(listener); err != nil {
		return err
	}
	socket, err := s.openSocket()
	if err != nil {
		return err
	}
	s.registered = s.instances(socket)
	if s.registration, err = s.registry.Register(s.registered...); err != nil {
		s.endConnections()
		err = fmt.Errorf("registering: %w", err)
		for range s.listeners() {
			err = errors.Join(err, <-s.served)
		}
		return err
	}
	s.options.Log.Info("serving", "address", s.address, "apis", names(s.apis.contracts()))
	return nil
}

// abandon releases everything that a service holds which could not start.
func (s *Service) abandon() {
	s.stop()
	if s.schemas != nil {
		s.schemas()
	}
	if s.guard != nil {
		s.guard.EndCalls()
	}
	if s.server != nil {
		s.endConnections()
	}
	if s.guard != nil {
		s.guard.Close()
	}
	s.options.callLog.Close()
	_ = s.options.CloseListener() // it may be closed already, as the other one
	s.closeListeners()
	s.admin.Close()
}

// Run serves until the context of the service ends, and then shuts down.
func (s *Service) Run() {
	defer close(s.done)
	defer s.stop()
	defer s.admin.Close()
	defer s.options.callLog.Close()
	defer s.guard.Close()
	defer s.uncollect()
	defer s.identity.Watch()()
	defer s.authorization.watch()()
	defer s.closeListeners()
	defer s.follow()()
	select {
	case <-s.life.Done():
		s.err = s.shutDown(len(s.listeners()))
	case err := <-s.served:
		s.err = errors.Join(fmt.Errorf("onecall: service: %w", err), s.shutDown(len(s.listeners())-1))
	case <-s.killed.Done():
		s.die()
	}
}

// accept accepts connections from a listener, on another goroutine. It returns when that has
// begun.
func (s *Service) accept(from net.Listener) (*handover, error) {
	listener := newHandover(limitedListener{from, s.connections}, from)
	go func() {
		err := errors.New("its goroutine was ended by the listener")
		defer func() { // also if the listener calls runtime.Goexit
			if err != nil {
				err = fmt.Errorf("accepting connections: %w", err)
			}
			s.served <- err
		}()
		err = s.server.Serve(listener)
	}()
	select {
	case <-listener.accepting:
		return listener, nil
	case err := <-s.served:
		return listener, err
	}
}
