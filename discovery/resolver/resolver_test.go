package resolver_test

import (
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
	onecall "github.com/onecall-dev/onecall/discovery/resolver"
)

// recorder is a source of snapshots, and a connection of grpc-go's, that records the order
// of events.
type recorder struct {
	resolver.ClientConn // the methods that a resolver must not call are nil

	t      *testing.T
	api    string
	notify func(discovery.Snapshot)
	built  resolver.Resolver

	mu     sync.Mutex // guards the fields below: timers change them too
	events []string
	last   resolver.State
	err    error
	// unavailable is what was observed last.
	unavailable error
}

func (s *recorder) Watch(api string, observer func(discovery.Snapshot)) func() {
	s.api, s.notify = api, observer
	return func() { s.happened("stopped") }
}

func (s *recorder) UpdateState(state resolver.State) error {
	s.happened("updated")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = state
	return nil
}

func (s *recorder) ReportError(err error) {
	s.happened("failed")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *recorder) happened(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event)
}

func (s *recorder) observe(unavailable error) {
	if errors.As(unavailable, new(*onecall.NoAnswerError)) {
		s.happened("observed nothing")
		return
	}
	s.happened("observed")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unavailable = unavailable
}

// want compares what has happened since the last time.
func (s *recorder) want(events ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.events, events) {
		s.t.Errorf("happened %q, want %q", s.events, events)
	}
	s.events = nil
}

// observerKey is the key of the attribute of an address that has its observer.
type observerKey struct{}

func build(t *testing.T, config ...onecall.Config) (*recorder, resolver.Resolver) {
	t.Helper()
	target, err := url.Parse(onecall.Target("billing.invoices"))
	if err != nil {
		t.Fatal(err)
	}
	s := &recorder{t: t}
	with := onecall.Config{}
	if len(config) > 0 {
		with = config[0]
	}
	with.Observe = s.observe
	with.Attach = func(address resolver.Address, _ discovery.Instance, observer onecall.Observer) resolver.Address {
		address.Attributes = address.Attributes.WithValue(observerKey{}, observer)
		return address
	}
	if with.Logger == nil {
		with.Logger = slog.New(slog.DiscardHandler)
	}
	built, err := onecall.NewBuilder(s, with).Build(resolver.Target{URL: *target}, s, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.api != "billing.invoices" {
		t.Errorf("watched is %q", s.api)
	}
	s.want("observed nothing")
	s.built = built
	return s, built
}

func TestInstancesBecomeEndpoints(t *testing.T) {
	t.Parallel()
	s, built := build(t)
	one := discovery.Instance{
		API: "billing.invoices", Address: "10.0.0.1:1", Incarnation: discovery.NewIncarnation(),
		State: discovery.Serving, Zone: "a", Started: time.Now(),
	}
	draining, two := one, one
	draining.Address, draining.State = "10.0.0.2:1", discovery.Draining
	two.Address = "10.0.0.3:1"
	s.notify(discovery.Snapshot{API: "billing.invoices", Known: true, Instances: []discovery.Instance{one, draining, two}})
	s.want("observed", "updated") // so that a call that finds no error can be sent
	if len(s.last.Endpoints) != 2 {
		t.Fatalf("the endpoints are %v, want the two that serve", s.last.Endpoints)
	}
	for i, want := range []discovery.Instance{one, two} {
		got := s.last.Endpoints[i]
		if len(got.Addresses) != 1 || got.Addresses[0].Addr != want.Address {
			t.Errorf("endpoint %d is %v, want that of %+v", i, got, want)
		}
	}
	s.wantUsed(one, two)
	built.ResolveNow(resolver.ResolveNowOptions{})
	s.want()
	built.Close()
	s.want("stopped", "observed nothing")
}

func TestAnObserverLearnsWhyACallFailsBeforeItDoes(t *testing.T) {
	t.Parallel()
	s, _ := build(t)
	unreachable := &discovery.UnreachableError{Cause: errors.New("no route")}
	s.notify(discovery.Snapshot{Unreachable: unreachable})
	s.want("observed", "failed")
	if !errors.Is(s.err, error(unreachable)) {
		t.Errorf("the error is %v", s.err)
	}
	s.notify(discovery.Snapshot{Known: true})
	s.want("observed", "updated")
	if len(s.last.Endpoints) != 0 {
		t.Errorf("the endpoints are %v, want none", s.last.Endpoints)
	}
}

func TestTheLossOfTheLastInstanceIsObservedAfterTheConnectionHasNone(t *testing.T) {
	t.Parallel()
	s, _ := build(t)
	s.notify(discovery.Snapshot{Known: true, Instances: []discovery.Instance{{Address: "10.0.0.1:1"}}})
	s.want("observed", "updated")
	s.notify(discovery.Snapshot{Known: true, Instances: []discovery.Instance{{Address: "10.0.0.1:1", State: discovery.Draining}}})
	s.want("updated", "observed")
	s.notify(discovery.Snapshot{Known: true})
	s.want("observed") // the connection has no instance already
	if !errors.As(s.unavailable, new(*discovery.NoInstanceError)) {
		t.Errorf("observed is %v", s.unavailable)
	}
}

func TestLastKnownInstancesStayWhileTheRegistryIsAway(t *testing.T) {
	t.Parallel()
	s, _ := build(t)
	instances := []discovery.Instance{{Address: "10.0.0.1:1", State: discovery.Serving}}
	s.notify(discovery.Snapshot{Known: true, Instances: instances, Unreachable: &discovery.UnreachableError{Cause: errors.New("no route")}})
	s.want("observed", "updated")
	if len(s.last.Endpoints) != 1 {
		t.Errorf("the endpoints are %v, want the last known one", s.last.Endpoints)
	}
}

func TestABuilderNeedsNoObserver(t *testing.T) {
	t.Parallel()
	s := &recorder{t: t}
	builder := onecall.NewBuilder(s, onecall.Config{})
	if builder.Scheme() != onecall.Scheme {
		t.Errorf("the scheme is %q", builder.Scheme())
	}
	built, err := builder.Build(resolver.Target{}, s, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.notify(discovery.Snapshot{Known: true})
	built.Close()
	s.want("updated", "stopped")
}
