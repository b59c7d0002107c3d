package server

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/schemas"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
)

// RegistrationHealth is framework.RegistrationHealth.
const RegistrationHealth = "onecall.registration"

// follow keeps the health of the registration up to date until stop.
func (s *Service) follow() (stop func()) {
	ended := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() {
		for {
			status := s.registration.Status()
			state := grpc_health_v1.HealthCheckResponse_NOT_SERVING
			if status.Registered {
				state = grpc_health_v1.HealthCheckResponse_SERVING
			}
			s.health.SetServingStatus(RegistrationHealth, state)
			s.options.notify.Notify(context.Background(), observe.RegistrationChanged{Registered: status.Registered, Err: status.Err})
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

// instances returns the instances to register: one for each API, at the service's
// address and at its socket, if there is one.
func (s *Service) instances(socket discovery.Socket) []discovery.Instance {
	started := time.Now()
	var instances []discovery.Instance
	for _, api := range s.apis.contracts() {
		digest, descriptors := s.published(api)
		instances = append(instances, discovery.Instance{
			API:         api.Name,
			Address:     s.address,
			Incarnation: s.incarnation,
			Service:     api.Service,
			State:       discovery.Serving,
			Version:     programVersion(),
			Zone:        s.options.Zone,
			Schema:      digest,
			Descriptors: descriptors,
			Started:     started,
			Socket:      socket,
		})
	}
	return instances
}

// published returns the schema of an API to publish. If it cannot be published, both
// results are "": callers with generated code do not need it.
func (s *Service) published(api *contract.API) (digest, descriptors string) {
	service := schemas.LinkedService(api.Service)
	if service == nil {
		return "", ""
	}
	digest, err := schema.Digest(service)
	if err == nil {
		descriptors, err = schema.Of(service).Pack()
	}
	if err != nil {
		s.options.Log.Warn("the schema of an API is not published: callers need its generated code", "api", api.Name, "error", err)
		return "", ""
	}
	return digest, descriptors
}

// programVersion returns the version of the program's main module, "" if it was
// built without one.
func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "(devel)" {
		return ""
	}
	return info.Main.Version
}

// names returns the bus names of APIs, for the log.
func names(apis []*contract.API) []string {
	out := make([]string, len(apis))
	for i, api := range apis {
		out[i] = api.Name
	}
	return out
}
