package resolver_test

import (
	"context"
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

// story is a registry that reports what a test sets; it writes down the order
// of events.
type story struct {
	resolver.ClientConn // the methods that a resolver must not call are nil

	t    *testing.T
	api  string
	tell func(discovery.Snapshot)

	mu     sync.Mutex // guards the fields below: timers change them too
	events []string
	last   resolver.State
	err    error
	// problem is what was observed last.
	problem error
}

func (s *story) Register(...discovery.Instance) (discovery.Registration, error) {
	s.t.Error("a resolver registers")
	return nil, errors.New("not here")
}

func (s *story) Watch(api string, observer func(discovery.Snapshot)) func() {
	s.api, s.tell = api, observer
	return func() { s.happened("stopped") }
}

func (s *story) UpdateState(state resolver.State) error {
	s.happened("updated")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = state
	return nil
}

func (s *story) ReportError(err error) {
	s.happened("failed")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *story) happened(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, event)
}

func (s *story) Descriptors(context.Context, discovery.Instance) (string, error) {
	s.t.Error("a resolver asks for descriptors")
	return "", errors.New("not here")
}

func (s *story) observe(problem error) {
	if errors.As(problem, new(*onecall.NoAnswerError)) {
		s.happened("observed nothing")
		return
	}
	s.happened("observed")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = problem
}

// want compares what has happened since the last time.
func (s *story) want(events ...string) {
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

func build(t *testing.T, config ...onecall.Config) (*story, resolver.Resolver) {
	t.Helper()
	target, err := url.Parse(onecall.Target("billing.invoices"))
	if err != nil {
		t.Fatal(err)
	}
	s := &story{t: t}
	with := onecall.Config{}
	if len(config) > 0 {
		with = config[0]
	}
	with.Observe = s.observe
	with.Attach = func(address resolver.Address, _ discovery.Incarnation, observer onecall.Observer) resolver.Address {
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
	s.tell(discovery.Snapshot{API: "billing.invoices", Known: true, Instances: []discovery.Instance{one, draining, two}})
	s.want("observed", "updated") // so that who sees no problem can call
	if len(s.last.Endpoints) != 2 {
		t.Fatalf("the endpoints are %v, want the two that serve", s.last.Endpoints)
	}
	for i, want := range []discovery.Instance{one, two} {
		got := s.last.Endpoints[i]
		if instance, ok := onecall.InstanceOf(got); !ok || !instance.Equal(want) || len(got.Addresses) != 1 || got.Addresses[0].Addr != want.Address {
			t.Errorf("endpoint %d is %v of %+v, want %+v", i, got, instance, want)
		}
	}
	if _, ok := onecall.InstanceOf(resolver.Endpoint{}); ok {
		t.Error("an endpoint of another resolver stands for an instance")
	}
	built.ResolveNow(resolver.ResolveNowOptions{})
	s.want()
	built.Close()
	s.want("stopped", "observed nothing")
}

func TestAnObserverLearnsWhyACallFailsBeforeItDoes(t *testing.T) {
	t.Parallel()
	s, _ := build(t)
	unreachable := &discovery.UnreachableError{Cause: errors.New("no route")}
	s.tell(discovery.Snapshot{Unreachable: unreachable})
	s.want("observed", "failed")
	if !errors.Is(s.err, error(unreachable)) {
		t.Errorf("the error is %v", s.err)
	}
	s.tell(discovery.Snapshot{Known: true})
	s.want("observed", "updated")
	if len(s.last.Endpoints) != 0 {
		t.Errorf("the endpoints are %v, want none", s.last.Endpoints)
	}
}

func TestThatTheLastInstanceIsGoneIsToldAfterTheConnectionKnowsIt(t *testing.T) {
	t.Parallel()
	s, _ := build(t)
	s.tell(discovery.Snapshot{Known: true, Instances: []discovery.Instance{{Address: "10.0.0.1:1"}}})
	s.want("observed", "updated")
	s.tell(discovery.Snapshot{Known: true, Instances: []discovery.Instance{{Address: "10.0.0.1:1", State: discovery.Draining}}})
	s.want("updated", "observed")
	s.tell(discovery.Snapshot{Known: true})
	s.want("observed") // the connection has no instance already
	if !errors.As(s.problem, new(*discovery.NoInstanceError)) {
		t.Errorf("the problem is %v", s.problem)
	}
}

func TestLastKnownInstancesStayWhileTheRegistryIsAway(t *testing.T) {
	t.Parallel()
	s, _ := build(t)
	instances := []discovery.Instance{{Address: "10.0.0.1:1", State: discovery.Serving}}
	s.tell(discovery.Snapshot{Known: true, Instances: instances, Unreachable: &discovery.UnreachableError{Cause: errors.New("no route")}})
	s.want("observed", "updated")
	if len(s.last.Endpoints) != 1 {
		t.Errorf("the endpoints are %v, want the last known one", s.last.Endpoints)
	}
}

func TestABuilderNeedsNoObserver(t *testing.T) {
	t.Parallel()
	s := &story{t: t}
	builder := onecall.NewBuilder(s, onecall.Config{})
	if builder.Scheme() != onecall.Scheme {
		t.Errorf("the scheme is %q", builder.Scheme())
	}
	built, err := builder.Build(resolver.Target{}, s, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.tell(discovery.Snapshot{Known: true})
	built.Close()
	s.want("updated", "stopped")
}
