package memory_test

import (
	"testing"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
)

func TestRegistryPassesTheSuite(t *testing.T) {
	t.Parallel()
	discoverytest.Run(t, func(*testing.T) (discovery.Registry, discovery.Registry) {
		registry := memory.New()
		return registry, registry
	})
}
