package framework

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
)

const (
	// leaveShare is the part of the budget that leaving the registry may take.
	leaveShare = 5
	// drainTime is how long callers have to learn that an instance is
	// draining before its connections are told to go away. A call that meets
	// a connection just as that goes away ends with an unknown outcome.
	drainTime = 200 * time.Millisecond
)

// Serve serves what register registers until ctx ends.
//
// It listens, serves the standard health service beside the APIs, and puts
// itself into the registry once it accepts connections; when the registry is
// away it serves all the same and registers when that is back, which the health
// service tells of [RegistrationHealth]. When ctx ends it
// leaves the registry, finishes the calls that are under way, all within
// [StopWithin], and returns every error it met, joined; nil when there was
// none. What is wrong with a parameter, an option or an API's .proto is an
// error before anything is served.
//
// register hands the generated Register…Server functions what they need:
//
//	framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
//		authv1.RegisterAuthServiceServer(apis, auth.NewServer(accounts))
//	})
//
// The registry stays the program's to close, after Serve has returned.
func Serve(ctx context.Context, registry discovery.Registry, register func(apis grpc.ServiceRegistrar), options ...ServeOption) error {
	switch {
	case ctx == nil:
		return errors.New("onecall: Serve: the context is nil: give one that ends when the service is to stop, such as signal.NotifyContext's")
	case registry == nil:
		return errors.New("onecall: Serve: registry is nil: open one with etcd.Open or memory.New")
	case register == nil:
		return errors.New("onecall: Serve: register is nil: give a function that registers the APIs")
	}
	read, err := newServeOptions(options)
	if err != nil {
		return err
	}
	apis := &apis{log: read.log}
	register(apis)
	if err := apis.check(); err != nil {
		return fmt.Errorf("onecall: Serve: %w", err)
	}
	s := &serving{apis: apis, registry: registry, options: read, incarnation: discovery.NewIncarnation(), health: health.NewServer()}
	if s.guard, err = atmostonce.NewServer(atmostonce.ServerConfig{
		Incarnation:             s.incarnation,
		RequireIdentity:         read.admission.RequireIdentity,
		MaxSessionsPerPrincipal: read.admission.MaxSessionsPerPrincipal,
		MaxSessions:             read.admission.MaxSessions,
		Ledger:                  read.admission.Ledger,
		Exempt:                  contract.Infrastructure,
	}); err != nil {
		return fmt.Errorf("onecall: Serve: %w", err)
	}
	defer s.guard.Close()
	if err := s.newServer(); err != nil {
		return fmt.Errorf("onecall: Serve: %w", err)
	}
	return s.run(ctx)
}

// serving is one running Serve.
type serving struct {
	apis        *apis
	registry    discovery.Registry
	options     serveOptions
	incarnation discovery.Incarnation
	guard       *atmostonce.Server
	server      *grpc.Server
	health      *health.Server
}

// newServer makes grpc-go's server with all services.
func (s *serving) newServer() (err error) {
	defer func() {
		// grpc-go panics when an interceptor is set twice.
		if cause := recover(); cause != nil {
			err = fmt.Errorf("option ServerOptions: %v; give grpc.ChainUnaryInterceptor or grpc.ChainStreamInterceptor instead", cause)
		}
	}()
	contracts := s.apis.contracts()
	rules := make(map[string]validate.Method)
	for _, api := range contracts {
		compiled, fault := compileRules(api)
		if fault != nil {
			return fault
		}
		maps.Copy(rules, compiled)
	}
	s.server = grpc.NewServer(serverOptions(s.options, s.guard, limited(contracts), rules)...)
	s.apis.serveOn(s.server, s.guard.MarkStarted)
	if !s.apis.has(grpc_health_v1.Health_ServiceDesc.ServiceName) {
		grpc_health_v1.RegisterHealthServer(s.server, s.health)
	}
	for _, api := range contracts {
		s.health.SetServingStatus(api.Service, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	return nil
}

// run listens, serves, registers, and on the way out does so in reverse.
func (s *serving) run(ctx context.Context) error {
	listener, err := s.options.listen(ctx)
	if err != nil {
		s.server.Stop()
		return fmt.Errorf("onecall: Serve: option ListenOn: cannot listen: %w", err)
	}
	address, err := advertised(listener, s.options.advertise)
	if err != nil {
		s.server.Stop()
		return errors.Join(fmt.Errorf("onecall: Serve: %w", err), listener.Close())
	}
	accepting := &acceptingListener{Listener: listener, accepting: make(chan struct{})}
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(accepting) }()
	select {
	case <-accepting.accepting:
	case err := <-served:
		s.server.Stop()
		return fmt.Errorf("onecall: Serve: %w", err)
	}

	registration, err := s.registry.Register(s.instances(address)...)
	if err != nil {
		s.server.Stop()
		return errors.Join(fmt.Errorf("onecall: Serve: registering: %w", err), <-served)
	}
	s.options.log.Info("serving", "address", address, "apis", names(s.apis.contracts()))
	stopFollowing := s.follow(registration)
	defer stopFollowing()

	select {
	case <-ctx.Done():
		err = errors.Join(s.stop(registration), <-served)
	case err = <-served:
		err = errors.Join(fmt.Errorf("onecall: Serve: accepting connections: %w", err), s.stop(registration))
	}
	s.options.log.Info("stopped", "address", address)
	return err
}

// RegistrationHealth is the name by which the health service of [Serve] tells
// whether its APIs stand in the registry. They are served all the same when they
// do not, so it is no part of the health of the server itself, the name "".
const RegistrationHealth = "onecall.registration"

// follow keeps the health of the registration up to date until stop.
func (s *serving) follow(registration discovery.Registration) (stop func()) {
	ended := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() {
		for {
			status := registration.Status()
			state := grpc_health_v1.HealthCheckResponse_NOT_SERVING
			if status.Registered {
				state = grpc_health_v1.HealthCheckResponse_SERVING
			}
			s.health.SetServingStatus(RegistrationHealth, state)
			select {
			case <-status.Changed:
			case <-ended:
				return
			}
		}
	})
	return func() {
		close(ended)
		following.Wait()
	}
}

// stop leaves the registry and finishes the calls under way, within the budget.
func (s *serving) stop(registration discovery.Registration) error {
	var errs []error
	end := time.Now().Add(s.options.budget)
	leaving, cancel := context.WithTimeout(context.Background(), s.options.budget/leaveShare)
	defer cancel()
	if err := registration.Drain(leaving); err != nil {
		errs = append(errs, fmt.Errorf("onecall: Serve: leaving the registry: %w", err))
	} else {
		pause(leaving, drainTime)
	}
	// Not before callers know that the instance drains: to them one that is
	// unhealthy is a fault.
	s.health.Shutdown()
	if err := registration.Close(leaving); err != nil {
		errs = append(errs, fmt.Errorf("onecall: Serve: leaving the registry: %w", err))
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.server.GracefulStop()
	}()
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
		errs = append(errs, fmt.Errorf("onecall: Serve: calls were still under way after %v and were cut off: handlers must heed their context, or option StopWithin must allow more", s.options.budget))
		s.server.Stop() // the goroutine above ends with the last handler
	}
	return errors.Join(errs...)
}

// pause waits for a time, or until ctx ends.
func pause(ctx context.Context, length time.Duration) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// instances gives what is registered: each API at the address.
func (s *serving) instances(address string) []discovery.Instance {
	started := time.Now()
	var instances []discovery.Instance
	for _, api := range s.apis.contracts() {
		digest, descriptors := s.published(api)
		instances = append(instances, discovery.Instance{
			API:         api.Name,
			Address:     address,
			Incarnation: s.incarnation,
			Service:     api.Service,
			State:       discovery.Serving,
			Version:     programVersion(),
			Zone:        s.options.zone,
			Schema:      digest,
			Descriptors: descriptors,
			Started:     started,
		})
	}
	return instances
}

// published gives what is published of an API's schema: nothing of one that
// cannot be, which callers with generated code do not need.
func (s *serving) published(api *contract.API) (digest, descriptors string) {
	service := serviceNamed(api.Service)
	if service == nil {
		return "", ""
	}
	digest, err := schema.Digest(service)
	if err == nil {
		descriptors, err = schema.Of(service).Pack()
	}
	if err != nil {
		s.options.log.Warn("the schema of an API is not published: callers need its generated code", "api", api.Name, "error", err)
		return "", ""
	}
	return digest, descriptors
}

// programVersion gives the version of the program's main module, "" when it was
// built without one.
func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "(devel)" {
		return ""
	}
	return info.Main.Version
}

// acceptingListener tells when connections are accepted for the first time.
type acceptingListener struct {
	net.Listener

	once      sync.Once
	accepting chan struct{}
}

// Accept implements [net.Listener].
func (l *acceptingListener) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.accepting) })
	return l.Listener.Accept()
}

// names gives the bus names of APIs, for the log.
func names(apis []*contract.API) []string {
	out := make([]string, len(apis))
	for i, api := range apis {
		out[i] = api.Name
	}
	return out
}
