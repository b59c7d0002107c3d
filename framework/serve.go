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
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
)

// Serve serves what register registers until ctx ends.
//
// It listens, serves the standard health service beside the APIs, and puts
// itself into the registry once it accepts connections; when the registry is
// away it serves all the same and registers when that is back, which the health
// service tells of [RegistrationHealth].
//
// When ctx ends it leaves the registry, lets handlers learn of it ([Draining]),
// refuses new calls, and finishes those that are under way, all within
// [ShutdownTimeout]. It waits for no stream of gRPC's own services, such as health
// watches, and for no caller that is gone. It returns every error it met,
// joined; nil when there was none. What is wrong with a parameter, an option or an API's .proto is an
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
	defer s.close()
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
	guard       *server.Server
	server      *grpc.Server
	health      *health.Server
	underWay    *underWay
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
	s.underWay = newUnderWay(contracts)
	chain, err := newChain(s.options, s.incarnation, s.underWay, limited(contracts), rules)
	if err != nil {
		return err
	}
	s.guard = chain.guard
	s.server = grpc.NewServer(chain.options(s.options.server)...)
	s.apis.serveOn(s.server, func(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
		s.underWay.add(desc)
		return chain.service(desc)
	})
	if !s.apis.has(grpc_health_v1.Health_ServiceDesc.ServiceName) {
		grpc_health_v1.RegisterHealthServer(s.server, s.health)
	}
	for _, api := range contracts {
		s.health.SetServingStatus(api.Name, grpc_health_v1.HealthCheckResponse_SERVING)
		s.health.SetServingStatus(api.Service, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	return nil
}

// close ends the guard's goroutine, if there is one.
func (s *serving) close() {
	if s.guard != nil {
		s.guard.Close()
	}
}

// run listens, serves, registers, and on the way out does so in reverse.
func (s *serving) run(ctx context.Context) error {
	stopped := false
	defer func() {
		if !stopped {
			s.server.Stop() // nothing is served yet, or register or the logger ended this goroutine
		}
	}()
	listener, err := s.options.listen(ctx)
	if err != nil {
		return fmt.Errorf("onecall: Serve: option ListenOn: cannot listen: %w: end what listens there, or give an address of this machine with a free port, such as 127.0.0.1:0", err)
	}
	address, err := advertised(listener, s.options.advertise)
	if err != nil {
		return errors.Join(fmt.Errorf("onecall: Serve: %w", err), listener.Close())
	}
	accepting := &acceptingListener{Listener: listener, accepting: make(chan struct{})}
	served := s.accept(accepting)
	select {
	case <-accepting.accepting:
	case err := <-served:
		return fmt.Errorf("onecall: Serve: %w", err)
	}

	registration, err := s.registry.Register(s.instances(address)...)
	if err != nil {
		stopped = true
		s.server.Stop()
		return errors.Join(fmt.Errorf("onecall: Serve: registering: %w", err), <-served)
	}
	s.options.log.Info("serving", "address", address, "apis", names(s.apis.contracts()))
	warnOfPlainText(s.options.log, s.server, listener.Addr())
	stopFollowing := s.follow(registration)
	defer stopFollowing()

	select {
	case <-ctx.Done():
		stopped = true
		return s.shutDown(address, registration, served)
	case err := <-served:
		stopped = true
		return errors.Join(fmt.Errorf("onecall: Serve: accepting connections: %w", err), s.shutDown(address, registration, nil))
	}
}

// accept has the server accept connections, and returns a channel on which its
// error is sent, once.
func (s *serving) accept(listener net.Listener) <-chan error {
	served := make(chan error, 1)
	go func() {
		err := errors.New("the goroutine that accepts connections was ended by the listener")
		defer func() { served <- err }() // also when the listener calls runtime.Goexit
		err = s.server.Serve(listener)
	}()
	return served
}

// RegistrationHealth is the name by which the health service of [Serve] reports
// whether its APIs are registered. They are served all the same when they are
// not, so it is no part of the health of the server itself, the name "". Each
// API has its health by its bus name, such as auth, and by its full proto name.
const RegistrationHealth = "onecall.registration"

// follow keeps the health of the registration up to date until stop.
func (s *serving) follow(registration discovery.Registration) (stop func()) {
	ended := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() {
		for {
			status := registration.Status()
			s.options.notify.notify(context.Background(), RegistrationChanged{Registered: status.Registered, Err: status.Err})
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
