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
	started, packed := time.Now(), s.schemas()
	var instances []discovery.Instance
	for _, api := range s.apis.contracts() {
		instances = append(instances, discovery.Instance{
			API:         api.Name,
			Address:     s.address,
			Incarnation: s.incarnation,
			Service:     api.Service,
			State:       discovery.Serving,
			Version:     programVersion(),
			Zone:        s.options.Zone,
			Schema:      packed[api.Name].digest,
			Descriptors: packed[api.Name].descriptors,
			Started:     started,
			Socket:      socket,
		})
	}
	return instances
}

// published is the schema of an API that is published. If it cannot be, it is zero:
// callers with generated code do not need it.
type published struct{ digest, descriptors string }

// publish makes the schemas to publish on another goroutine, because that takes
// milliseconds. wait returns them, by API.
func (s *Service) publish(apis []*contract.API) (wait func() map[string]published) {
	packed := make(map[string]published, len(apis))
	made := background(func() {
		for _, api := range apis {
			packed[api.Name] = s.schemaOf(api)
		}
	})
	return func() map[string]published {
		<-made
		return packed
	}
}

// schemaOf returns the schema of an API to publish.
func (s *Service) schemaOf(api *contract.API) published {
	service := schemas.LinkedService(api.Service)
	if service == nil {
		return published{}
	}
	var descriptors string
	digest, err := schema.Digest(service)
	if err == nil {
		descriptors, err = schema.Of(service).Pack()
	}
	if err != nil {
		s.options.Log.Warn("the schema of an API is not published: callers need its generated code", "api", api.Name, "error", err)
		return published{}
	}
	return published{digest, descriptors}
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
