package resolver_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
	onecall "github.com/onecall-dev/onecall/discovery/resolver"
)

// fleet returns n instances, at 10.0.0.1 and so on.
func fleet(n int) []discovery.Instance {
	instances := make([]discovery.Instance, n)
	for i := range instances {
		instances[i] = discovery.Instance{
			API: "billing.invoices", Address: fmt.Sprintf("10.0.%d.%d:1", i/200, 100+i%200), Incarnation: discovery.NewIncarnation(), State: discovery.Serving,
		}
	}
	return instances
}

// registered notifies the resolver that the registry has these instances.
func (s *recorder) registered(instances ...discovery.Instance) {
	s.notify(discovery.Snapshot{API: s.api, Known: true, Instances: instances})
}

// wantUsed compares the instances in use.
func (s *recorder) wantUsed(want ...discovery.Instance) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	used := onecall.Used(s.built)
	same := slices.EqualFunc(s.last.Endpoints, want, func(endpoint resolver.Endpoint, instance discovery.Instance) bool {
		return endpoint.Addresses[0].Addr == instance.Address
	})
	if !same {
		s.t.Errorf("the endpoints are %v, want those of %+v", s.last.Endpoints, want)
	}
	if !slices.Equal(used, want) {
		s.t.Errorf("in use are %d instances, want %d:\n%+v\nwant\n%+v", len(used), len(want), used, want)
	}
}

// reach reports the state of the connection to the endpoint at an index.
func (s *recorder) reach(index int, states ...connectivity.State) {
	s.mu.Lock()
	observer, _ := s.last.Endpoints[index].Addresses[0].Attributes.Value(observerKey{}).(onecall.Observer)
	s.mu.Unlock()
	for _, state := range states {
		observer.Observe(index, balancer.SubConnState{ConnectivityState: state})
	}
}

func TestOneOfSeveralInstancesThatVanishesIsGone(t *testing.T) {
	t.Parallel()
	for _, size := range []int{2, 3, 10} {
		t.Run(fmt.Sprintf("of %d", size), func(t *testing.T) {
			t.Parallel()
			s, _ := build(t)
			all := fleet(size)
			s.registered(all...)
			s.registered(all[1:]...)
			s.wantUsed(all[1:]...)
		})
	}
}

func TestInstancesThatMostlyVanishAtOnceStay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ size, left int }{{1, 0}, {2, 0}, {3, 1}, {10, 4}, {1000, 0}} {
		t.Run(fmt.Sprintf("%d of %d are left", test.left, test.size), func(t *testing.T) {
			t.Parallel()
			s, _ := build(t)
			all := fleet(test.size)
			s.registered(all...)
			s.registered(all[:test.left]...)
			s.wantUsed(all...)
			if s.unavailable != nil {
				t.Errorf("the rest is retained, but observed is %v", s.unavailable)
			}
		})
	}
}

// TestEachTimeThatTheRegistryLosesAnInstanceItIsConnectedToAnew compares addresses,
// as grpc-go does to find out whether a connection serves.
func TestEachTimeThatTheRegistryLosesAnInstanceItIsConnectedToAnew(t *testing.T) {
	t.Parallel()
	s, _ := build(t)
	all := fleet(1)
	address := func(instances ...discovery.Instance) resolver.Address {
		s.registered(instances...)
		s.wantUsed(all...)
		return s.last.Endpoints[0].Addresses[0]
	}
	before := address(all...)
	for turn := range 3 {
		lost := address()
		if lost.Equal(before) {
			t.Errorf("lost for the time %d it has the connection that there was", turn)
		}
		all[0].Version = strconv.Itoa(turn) // which is no reason to connect anew
		if before = address(all...); !before.Equal(lost) {
			t.Errorf("back for the time %d it has another connection", turn)
		}
	}
}

func TestInstancesThatVanishOneAfterAnotherWithinTheWindowAreBackWhenMostAreGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, built := build(t)
		defer built.Close()
		all := fleet(4)
		s.registered(all...)
		for i := range 2 {
			time.Sleep(onecall.VanishWindow / 4)
			s.registered(all[i+1:]...)
			s.wantUsed(all[i+1:]...)
		}
		time.Sleep(onecall.VanishWindow / 4)
		s.registered(all[3])
		s.wantUsed(all...) // three of four within a window
	})
}

func TestInstancesThatVanishSlowlyAreGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, built := build(t)
		defer built.Close()
		all := fleet(5)
		s.registered(all...)
		for i := range 4 {
			time.Sleep(onecall.VanishWindow + time.Second)
			s.registered(all[i+1:]...)
			s.wantUsed(all[i+1:]...)
		}
	})
}

func TestARetainedInstanceIsDroppedWhenItIsUnreachableForTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, built := build(t)
		defer built.Close()
		all := fleet(2)
		s.registered(all...)
		s.reach(0, connectivity.Connecting, connectivity.Ready)
		s.reach(1, connectivity.Connecting, connectivity.Ready)
		s.registered()
		s.wantUsed(all...)
		time.Sleep(time.Hour) // reachable ones stay for as long as it takes
		synctest.Wait()
		s.wantUsed(all...)

		s.reach(0, connectivity.Idle, connectivity.Connecting, connectivity.TransientFailure)
		time.Sleep(onecall.Grace - time.Second)
		synctest.Wait()
		s.wantUsed(all...)
		s.reach(1, connectivity.Idle) // lost a little later
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s.wantUsed(all[1])
		s.reach(0, connectivity.Ready) // and back in time
		time.Sleep(onecall.Grace)
		synctest.Wait()
		s.wantUsed(all[1])
		s.reach(0, connectivity.TransientFailure)
		time.Sleep(onecall.Grace)
		synctest.Wait()
		s.wantUsed()
		if !errors.As(s.unavailable, new(*discovery.NoInstanceError)) {
			t.Errorf("with all gone, observed is %v", s.unavailable)
		}
	})
}

func TestAnInstanceThatCrashedIsGoneWithItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, built := build(t)
		defer built.Close()
		only := fleet(1)
		s.registered(only...)
		s.reach(0, connectivity.Ready, connectivity.Idle, connectivity.Connecting, connectivity.TransientFailure)
		time.Sleep(2 * time.Second) // the shortest TTL
		s.registered()
		s.wantUsed()
	})
}

func TestRetainedInstancesAreReplacedByRegisteredOnes(t *testing.T) {
	t.Parallel()
	s, _ := build(t)
	all := fleet(3)
	s.registered(all...)
	s.registered()
	s.wantUsed(all...)

	next := all[1] // another process at the address of one
	next.Incarnation = discovery.NewIncarnation()
	s.registered(next)
	s.wantUsed(all[0], next, all[2])
	draining := all[0]
	draining.State = discovery.Draining
	s.registered(draining, next)
	s.wantUsed(next, all[2])
	s.registered(next)
	s.wantUsed(next, all[2]) // what drained does not come back
	s.registered(next, all[2])
	s.wantUsed(next, all[2])
	s.registered(next) // one of two, and the others went long ago as far as is known
	s.wantUsed(next)
}

func TestADrainedInstanceIsNotRetained(t *testing.T) {
	t.Parallel()
	s, _ := build(t)
	all := fleet(2)
	s.registered(all...)
	for i := range all {
		all[i].State = discovery.Draining
	}
	s.registered(all...)
	s.wantUsed()
	s.registered()
	s.wantUsed()
}

func TestInstancesOfTheCallersZoneArePreferred(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, built := build(t, onecall.Config{Zone: "a"})
		defer built.Close()
		all := fleet(4)
		for i := range all {
			all[i].Zone = []string{"a", "b"}[i%2]
		}
		s.registered(all[1], all[3])
		s.wantUsed(all[1], all[3]) // none in the zone
		s.registered(all...)
		s.wantUsed(all[0], all[2])
		s.reach(0, connectivity.Ready, connectivity.Idle, connectivity.Connecting)
		synctest.Wait()
		s.wantUsed(all[0], all[2]) // the other one there
		s.reach(1, connectivity.TransientFailure)
		synctest.Wait()
		s.wantUsed(all...)
		s.reach(2, connectivity.Connecting, connectivity.Ready)
		synctest.Wait()
		s.wantUsed(all[0], all[2])
	})
}

func TestInstancesOfOtherZonesThatVanishedAreRetainedToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, built := build(t, onecall.Config{Zone: "a"})
		defer built.Close()
		all := fleet(3)
		all[0].Zone, all[1].Zone, all[2].Zone = "a", "b", "b"
		s.registered(all...)
		s.wantUsed(all[0])
		s.reach(0, connectivity.TransientFailure)
		synctest.Wait()
		s.reach(1, connectivity.TransientFailure) // which says nothing any more when it is not in use
		s.reach(0, connectivity.Connecting, connectivity.Ready)
		synctest.Wait()
		s.wantUsed(all[0])
		time.Sleep(time.Hour)
		s.registered()
		s.wantUsed(all[0])
		s.reach(0, connectivity.Idle, connectivity.TransientFailure)
		synctest.Wait()
		s.wantUsed(all...) // all others can still be tried
		time.Sleep(onecall.Grace)
		synctest.Wait()
		s.wantUsed(all[1:]...)
	})
}

// TestWhetherMostVanishedCountsAllZones has the one instance of the caller's zone
// crash, while the other zone's stay.
func TestWhetherMostVanishedCountsAllZones(t *testing.T) {
	t.Parallel()
	s, _ := build(t, onecall.Config{Zone: "a"})
	all := fleet(3)
	all[0].Zone, all[1].Zone, all[2].Zone = "a", "b", "b"
	s.registered(all...)
	s.registered(all[1:]...)
	s.wantUsed(all[1:]...)
}

// TestAConnectionLostDuringASelectionIsNoticed loses the connection just after the
// instance was retained because it was reachable.
func TestAConnectionLostDuringASelectionIsNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s *recorder
		asked := 0
		s, built := build(t, onecall.Config{Accept: func(discovery.Instance, func()) error {
			asked++
			if asked == 2 { // it was just decided to keep it
				s.reach(0, connectivity.Idle)
			}
			return nil
		}})
		defer built.Close()
		all := fleet(1)
		s.registered(all...)
		s.reach(0, connectivity.Connecting, connectivity.Ready)
		s.registered()
		synctest.Wait()
		s.wantUsed(all...)
		time.Sleep(onecall.Grace)
		synctest.Wait()
		s.wantUsed()
	})
}

// TestARecheckIsNotDelayed has an instance refused just after it was accepted, while a
// retained one will be checked later.
func TestARecheckIsNotDelayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := fleet(3)
		asked := 0
		s, built := build(t, onecall.Config{Accept: func(instance discovery.Instance, recheck func()) error {
			if instance != all[1] {
				return nil
			}
			asked++
			switch asked {
			case 1:
				return nil
			case 2:
				recheck()
				return nil
			}
			return errors.New("refused")
		}})
		defer built.Close()
		s.registered(all...)
		s.registered(all[1:]...) // the window within which others may vanish too goes on
		synctest.Wait()
		s.wantUsed(all[2])
	})
}

func TestRefusedInstancesAreNotUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := fleet(2)
		refusal := errors.New("too old")
		var mu sync.Mutex
		refused := map[discovery.Incarnation]bool{all[0].Incarnation: true}
		var recheck func()
		s, built := build(t, onecall.Config{Accept: func(instance discovery.Instance, again func()) error {
			mu.Lock()
			defer mu.Unlock()
			recheck = again
			if refused[instance.Incarnation] {
				return refusal
			}
			return nil
		}})
		defer built.Close()
		s.registered(all...)
		s.wantUsed(all[1])
		mu.Lock()
		refused[all[1].Incarnation] = true
		mu.Unlock()
		recheck()
		synctest.Wait()
		s.wantUsed()
		if !errors.Is(s.unavailable, refusal) {
			t.Errorf("observed is %v, want the refusal", s.unavailable)
		}
		mu.Lock()
		clear(refused)
		mu.Unlock()
		recheck()
		synctest.Wait()
		s.wantUsed(all...)
	})
}

func TestASilentConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, built := build(t)
		defer built.Close()
		s.registered(fleet(2)...)
		before := s.last.Endpoints
		observer, _ := before[1].Addresses[0].Attributes.Value(observerKey{}).(onecall.Observer)
		observer.Silent()
		synctest.Wait()
		after := s.last.Endpoints
		if !after[0].Addresses[0].Equal(before[0].Addresses[0]) {
			t.Error("a connection that is not silent was replaced")
		}
		if after[1].Addresses[0].Equal(before[1].Addresses[0]) {
			t.Error("the silent connection was not replaced")
		}
	})
}

func TestAnEventCostsTheSameHoweverManyInstancesThereAre(t *testing.T) {
	// Not parallel: it counts allocations.
	const most = 40
	for _, size := range []int{1, 100, 1000} {
		s, _ := build(t)
		all := fleet(size)
		s.registered(all...)
		s.events = make([]string, 0, 1<<16)
		versions := []discovery.Instance{all[0], all[0]}
		versions[0].Version, versions[1].Version = "1", "2"
		turn := 0
		allocations := testing.AllocsPerRun(100, func() {
			turn++
			next := slices.Clone(all)
			next[0] = versions[turn%2]
			s.registered(next...)
		})
		if allocations > most {
			t.Errorf("an event at %d instances makes %v allocations, want %d at most", size, allocations, most)
		}
	}
}

func TestAClosedResolverReportsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, built := build(t)
		all := fleet(1)
		s.registered(all...)
		s.reach(0, connectivity.TransientFailure)
		s.registered()
		built.Close()
		s.events = nil
		time.Sleep(time.Hour)
		s.reach(0, connectivity.Ready)
		synctest.Wait()
		s.want()
	})
}
