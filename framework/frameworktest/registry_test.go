package frameworktest_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestTheRegistryPassesTheSuite(t *testing.T) {
	t.Parallel()
	discoverytest.Run(t, func(t *testing.T) (discovery.Registry, discovery.Registry) {
		t.Helper()
		t.Parallel()
		registry := frameworktest.New(t, nil).Registry()
		return registry, registry
	})
}

// isAway reports whether a snapshot is of a registry that cannot be reached.
func isAway(snapshot discovery.Snapshot) bool { return snapshot.Unreachable != nil }

func TestWatchesOfARegistryThatIsAway(t *testing.T) {
	t.Parallel()
	registry := frameworktest.New(t, nil).Registry()
	known := discoverytest.Watch(t, registry, "auth")
	first := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	known.UntilAddresses(t, "10.0.0.1:1")
	registry.Away()
	registry.Away()
	known.Until(t, "the last known instance", func(s discovery.Snapshot) bool { return isAway(s) && len(s.Instances) == 1 })
	unknown := discoverytest.Watch(t, registry, "auth")
	unknown.Until(t, "nothing", func(s discovery.Snapshot) bool { return isAway(s) && len(s.Instances) == 0 && s.API == "auth" })

	second, err := registry.Register(discoverytest.Instance("auth", "10.0.0.2:1"))
	if err != nil {
		t.Fatal(err)
	}
	if got := second.Status(); got.Registered || got.Err == nil {
		t.Errorf("the status is %+v, want not registered because of an error", got)
	}
	if got := first.Status(); !got.Registered || got.Err == nil {
		t.Errorf("the status is %+v, want registered and an error", got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{"Drain": first.Drain(ended), "Close": first.Close(ended)} {
		if _, away := errors.AsType[*discovery.UnreachableError](err); !away {
			t.Errorf("%s = %v, want why the registry has not changed", name, err)
		}
	}
	if _, err := registry.Descriptors(ended, discoverytest.Instance("auth", "10.0.0.1:1")); err == nil {
		t.Error("Descriptors has no error")
	}
	third, err := registry.Register(discoverytest.Instance("auth", "10.0.0.3:1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(third.Drain(ended), third.Close(ended)); err != nil {
		t.Errorf("the end of what was never registered = %v", err)
	}

	changed := second.Status().Changed
	registry.Back()
	registry.Back()
	eventually.Receive(t, "a change of the status", changed)
	discoverytest.AwaitRegistered(t, second)
	for _, watched := range []*discoverytest.Watched{known, unknown} {
		watched.Until(t, "both instances", func(s discovery.Snapshot) bool { return !isAway(s) && len(s.Instances) == 2 })
	}
	discoverytest.Close(t, second)
	known.UntilAddresses(t, "10.0.0.1:1")
}

// TestTheKitsOfAnOutage starts a bus and a service while the registry is away.
func TestTheKitsOfAnOutage(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, new(echo).register)
	kit.Registry().Away()
	if _, err := testv1.NewEchoServiceClient(kit).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
		t.Errorf("a call of a bus that knows the instance = %v", err)
	}
	late := kit.NewBus()
	_, err := testv1.NewEchoServiceClient(late).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	if _, away := errors.AsType[*discovery.UnreachableError](err); !away || status.Code(err) != codes.Unavailable || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a call of a bus that knows nothing = %v", err)
	}
	kit.Registry().Back()
	if err := late.Ready(eventually.Context(t), "test.echo"); err != nil {
		t.Error(err)
	}
}
