package framework

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
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
// health watches, or for callers whose connection has ended. It returns all errors,
// joined, or nil. A mistake in a parameter, an option or an API's .proto is an error
// before anything is served.
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
	service, err := start(ctx, registry, register, options)
	if err != nil {
		return err
	}
	service.run()
	return service.err
}

// Start serves what register registers, like [Serve], and returns as soon as the
// service accepts connections and has begun to register. The service ends when ctx
// does, or by [Service.Stop].
func Start(ctx context.Context, registry discovery.Registry, register func(apis grpc.ServiceRegistrar), options ...ServeOption) (*Service, error) {
	service, err := start(ctx, registry, register, options)
	if err != nil {
		return nil, err
	}
	go service.run()
	return service, nil
}

// start returns a service that accepts connections. The caller calls its run.
func start(ctx context.Context, registry discovery.Registry, register func(apis grpc.ServiceRegistrar), options []ServeOption) (*Service, error) {
	read, err := newServeOptions(options)
	if err == nil {
		err = checkServe(ctx, registry, register)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("onecall: service: %w", err), read.closeListener())
	}
	s := newService(ctx, registry, read)
	started := false
	defer func() {
		if !started {
			s.abandon() // also if register or the logger ended this goroutine
		}
	}()
	register(s.apis)
	if err = s.apis.check(); err == nil {
		err = s.newServer()
	}
	if err == nil {
		err = s.begin()
	}
	if err != nil {
		return nil, fmt.Errorf("onecall: service: %w", err)
	}
	started = true
	return s, nil
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
