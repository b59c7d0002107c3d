package framework

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/server"
)

// Serve serves what register registers until ctx ends.
//
// It listens, serves the APIs and the standard health service, and registers the
// service as soon as it accepts connections. If the registry is unavailable, Serve
// serves nevertheless, and registers as soon as the registry is available again. The
// health service reports the registration as [RegistrationHealth].
//
// When ctx ends, Serve removes the service from the registry, closes the channel of
// [Draining], refuses new calls, and finishes the calls under way, all within
// [ShutdownTimeout]. It does not wait for streams of gRPC's own services, such as
// health watches. It returns all errors, joined, or nil. A mistake in a parameter, an
// option or an API's .proto is an error before anything is served.
//
// register passes apis to the generated Register…Server functions:
//
//	framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
//		authv1.RegisterAuthServiceServer(apis, auth.NewServer(accounts))
//	})
//
// The program closes the registry, after Serve has returned. If the program needs
// the address or the counters of the service, call [Start] instead.
func Serve(ctx context.Context, registry discovery.Registry, register func(apis grpc.ServiceRegistrar), options ...ServeOption) error {
	running, err := start(ctx, registry, register, options)
	if err != nil {
		return err
	}
	running.Run()
	return running.Wait()
}

// Start serves what register registers, like [Serve], and returns as soon as the
// service accepts connections and has begun to register. The service ends when ctx
// does, or by [Service.Stop].
func Start(ctx context.Context, registry discovery.Registry, register func(apis grpc.ServiceRegistrar), options ...ServeOption) (*Service, error) {
	running, err := start(ctx, registry, register, options)
	if err != nil {
		return nil, err
	}
	go running.Run()
	return &Service{running: running}, nil
}

// start returns a service that accepts connections. The caller calls its Run.
func start(ctx context.Context, registry discovery.Registry, register func(apis grpc.ServiceRegistrar), options []ServeOption) (*server.Service, error) {
	read, err := newServeOptions(options)
	if err == nil {
		err = checkServe(ctx, registry, register)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("onecall: service: %w", err), read.CloseListener())
	}
	running, err := server.Start(ctx, registry, register, read)
	if err != nil {
		return nil, fmt.Errorf("onecall: service: %w", err)
	}
	return running, nil
}

// checkServe returns an error if a parameter of Serve or Start is nil.
func checkServe(ctx context.Context, registry discovery.Registry, register func(apis grpc.ServiceRegistrar)) error {
	switch {
	case ctx == nil:
		return errors.New("the context is nil: give one that ends when the service is to stop, such as signal.NotifyContext's")
	case registry == nil:
		return errors.New("registry is nil: open one with etcd.Open or memory.New")
	case register == nil:
		return errors.New("register is nil: give a function that registers the APIs")
	}
	return nil
}

// Service is a running service, made by [Start]. Its methods are safe for all
// goroutines.
type Service struct{ running *server.Service }

// Address returns the address at which callers reach the service, "host:port". The
// service is registered with it.
func (s *Service) Address() string { return s.running.Address() }

// Stop begins the graceful shutdown that [Serve] describes, waits for its end, and
// returns its error. If ctx ends first, Stop returns the error of ctx, and the
// shutdown goes on. Stop may be called again.
func (s *Service) Stop(ctx context.Context) error { return s.running.Stop(ctx) }

// Done returns a channel that is closed when the service has ended, because its
// context ended, Stop was called, or its listener failed.
func (s *Service) Done() <-chan struct{} { return s.running.Done() }

// Wait waits until the service has ended, and returns its error as [Serve] does.
func (s *Service) Wait() error { return s.running.Wait() }

// RegistrationHealth is the name under which the health service of [Serve] reports
// whether the APIs are registered. It does not change the health of the server itself,
// the name "", because APIs are also served while they are not registered. Each API has
// its health under its bus name, such as auth, and under its full proto name.
const RegistrationHealth = server.RegistrationHealth
