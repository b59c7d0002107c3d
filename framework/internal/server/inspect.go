package server

import (
	"context"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/admin"
)

// Places returns the names of the places in the chain of a service, the outermost
// first, for the documents.
func Places() []string {
	var names []string
	for _, place := range new(chain).order(Options{}, nil, nil) {
		names = append(names, place.name)
	}
	return names
}

// Chained returns a call of the first method of a service as grpc-go makes it, in a
// chain with options, without a connection. It is for tests of what a chain costs. end
// ends the chain.
func Chained(desc *grpc.ServiceDesc, impl any, options Options) (call func(ctx context.Context, decode func(any) error) error, end func(), err error) {
	options = options.prepared()
	registered := &apis{log: options.Log}
	registered.RegisterService(desc, impl)
	authorization, err := newAuthorization(options, registered.callable())
	if err != nil {
		options.callLog.Close()
		return nil, nil, err
	}
	calls := newUnderWay(nil)
	calls.add(desc)
	c, err := newChain(options, discovery.NewIncarnation(), calls, nil, nil, nil, authorization)
	if err != nil {
		options.callLog.Close()
		return nil, nil, err
	}
	method := c.service(desc).Methods[0].Handler
	return func(ctx context.Context, decode func(any) error) error {
		_, err := method(impl, ctx, decode, nil)
		return err
	}, func() { c.guard.Close(); options.callLog.Close() }, nil
}

// Inspect implements [admin.Service].
func (s *Service) Inspect() admin.ServiceStatus {
	stats := s.Stats()
	status := admin.ServiceStatus{
		Address: s.address, Registered: stats.Registration.Registered, Principals: stats.Admission.Principals,
		ActiveSessions: stats.Admission.Sessions - stats.Admission.Collapsed, IdleSessions: stats.Admission.Collapsed,
	}
	_, status.Draining = s.drain.duration()
	if stats.Registration.Err != nil {
		status.RegistrationError = stats.Registration.Err.Error()
	}
	for _, rpc := range stats.RPCs {
		status.InFlight += rpc.InFlight
	}
	status.Instances, _ = admin.Instances(s.registered)
	return status
}
