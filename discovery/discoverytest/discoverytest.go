// Package discoverytest is the suite that every [discovery.Registry] passes, also one of
// another module. docs/testing.md says what each test means:
//
//	func TestMyRegistry(t *testing.T) {
//		discoverytest.Run(t, func(t *testing.T) (fromHere, fromElsewhere discovery.Registry) {
//			store := newStore(t)
//			return open(t, store), open(t, store)
//		})
//	}
//
// The suite waits for events and not for times, so that it passes on a slow machine. It does
// not make the store unreachable: the author of a registry must test that. [Register],
// [Watch] and [Close] help with such tests.
package discoverytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/eventually"
)

// Run runs the suite. Each test calls open for two registries that share one store, which
// is empty. open closes them when the test ends.
func Run(t *testing.T, open func(t *testing.T) (fromHere, fromElsewhere discovery.Registry)) {
	t.Helper()
	tests := map[string]func(t *testing.T, here, elsewhere discovery.Registry){
		"notifies of an instance wherever it was registered":           notifiesOfAnInstance,
		"notifies of all fields of an instance":                        notifiesOfAllFields,
		"distinguishes an unknown API from one that is not served now": distinguishesUnknownFromUnserved,
		"separates APIs whose names begin with the same letters":       separatesAPIs,
		"notifies that an instance is draining":                        notifiesOfDraining,
		"replaces the earlier instance of an address":                  replacesAtAnAddress,
		"sorts instances by address":                                   sortsInstances,
		"removes only the registration that is closed":                 removesOnlyTheClosed,
		"refuses an instance that cannot be called":                    refusesBadInstances,
		"does not notify an observer after its stop":                   notifiesNoMoreAfterStop,
		"returns the descriptors of an instance":                       returnsDescriptors,
		"reports the status of a registration":                         reportsTheStatus,
		"reports when an instance was last seen":                       reportsLastSeen,
		"notifies every observer of the last state":                    notifiesEveryObserver,
		"lets an observer call the registry":                           letsObserversCall,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			here, elsewhere := open(t)
			test(t, here, elsewhere)
		})
	}
}

// Instance returns an instance of an API at an address, with an incarnation of
// its own.
func Instance(api, address string) discovery.Instance {
	return discovery.Instance{
		API:         api,
		Address:     address,
		Incarnation: discovery.NewIncarnation(),
		Service:     api + ".v1.Service",
		State:       discovery.Serving,
	}
}

// Register registers instances and waits until they are in the registry. It removes them
// when the test ends.
func Register(tb testing.TB, registry discovery.Registry, instances ...discovery.Instance) discovery.Registration {
	tb.Helper()
	registration, err := registry.Register(instances...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { Close(tb, registration) })
	AwaitRegistered(tb, registration)
	return registration
}

// AwaitRegistered waits until all instances of a registration are in the registry.
func AwaitRegistered(tb testing.TB, registration discovery.Registration) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), eventually.Limit)
	defer cancel()
	if err := discovery.AwaitRegistered(ctx, registration); err != nil {
		tb.Fatalf("not registered: %v", err)
	}
}

// Close closes a registration, in bounded time.
func Close(tb testing.TB, registration discovery.Registration) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), eventually.Limit)
	defer cancel()
	if err := registration.Close(ctx); err != nil {
		tb.Errorf("Close: %v", err)
	}
}

// Watch watches an API until the test ends.
func Watch(tb testing.TB, registry discovery.Registry, api string) *Watched {
	tb.Helper()
	w := &Watched{changed: make(chan struct{}, 1)}
	w.Stop = registry.Watch(api, w.observe)
	tb.Cleanup(w.Stop)
	return w
}

// Watched is what an observer was notified of.
type Watched struct {
	// Stop ends the watch.
	Stop func()

	mu      sync.Mutex
	all     []discovery.Snapshot
	changed chan struct{}
}

func (w *Watched) observe(snapshot discovery.Snapshot) {
	w.mu.Lock()
	w.all = append(w.all, snapshot)
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Snapshots returns all snapshots so far.
func (w *Watched) Snapshots() []discovery.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

// Until waits for a last snapshot that is as wanted.
func (w *Watched) Until(tb testing.TB, want string, is func(discovery.Snapshot) bool) discovery.Snapshot {
	tb.Helper()
	limit := time.NewTimer(eventually.Limit)
	defer limit.Stop()
	for {
		all := w.Snapshots()
		if len(all) > 0 && is(all[len(all)-1]) {
			return all[len(all)-1]
		}
		select {
		case <-w.changed:
		case <-limit.C:
			tb.Fatalf("after %v not notified of %s; the last snapshot is %+v", eventually.Limit, want, all[max(0, len(all)-1):])
		}
	}
}

// UntilAddresses waits for a last snapshot with these addresses, in this order.
func (w *Watched) UntilAddresses(tb testing.TB, want ...string) discovery.Snapshot {
	tb.Helper()
	return w.Until(tb, fmt.Sprintf("exactly the addresses %v", want), func(s discovery.Snapshot) bool { return slices.Equal(addresses(s), want) })
}

func addresses(snapshot discovery.Snapshot) []string {
	var out []string
	for _, instance := range snapshot.Instances {
		out = append(out, instance.Address)
	}
	return out
}

func notifiesOfAnInstance(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	before := Watch(t, elsewhere, "auth")
	registration := Register(t, here, Instance("auth", "10.0.0.1:1"))
	before.UntilAddresses(t, "10.0.0.1:1")
	after := Watch(t, here, "auth")
	after.UntilAddresses(t, "10.0.0.1:1")
	Close(t, registration)
	before.UntilAddresses(t)
	after.UntilAddresses(t)
}

func notifiesOfAllFields(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	full := discovery.Instance{
		API:         "auth",
		Address:     "[2001:db8::1]:443",
		Incarnation: discovery.NewIncarnation(),
		Service:     "auth.v1.AuthService",
		State:       discovery.Serving,
		Version:     "v1.2.3",
		Zone:        "zone-a",
		Schema:      "sha256:abc",
		Started:     time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC),
		Socket:      discovery.Socket{Host: "4a1c", Path: "/tmp/socket", File: "26:1234"},
	}
	Register(t, here, full)
	got := Watch(t, elsewhere, "auth").UntilAddresses(t, full.Address)
	if !got.Instances[0].Equal(full) {
		t.Errorf("notified of %+v, registered was %+v", got.Instances[0], full)
	}
}

func distinguishesUnknownFromUnserved(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	served := Watch(t, here, "auth")
	var unknown *discovery.UnknownAPIError
	if err := served.UntilAddresses(t).Err(); !errors.As(err, &unknown) || unknown.API != "auth" {
		t.Errorf("before auth was ever served: %v, want an UnknownAPIError that names it", err)
	}
	registration := Register(t, here, Instance("auth", "10.0.0.1:1"))
	if err := served.UntilAddresses(t, "10.0.0.1:1").Err(); err != nil {
		t.Errorf("with an instance: %v, want no error", err)
	}
	Close(t, registration)
	for _, watched := range []*Watched{served, Watch(t, elsewhere, "auth")} {
		snapshot := watched.UntilAddresses(t)
		var none *discovery.NoInstanceError
		if err := snapshot.Err(); !errors.As(err, &none) || none.API != "auth" {
			t.Errorf("after auth was served: %v, want a NoInstanceError that names it", err)
		}
	}
	snapshot := Watch(t, elsewhere, "outh").UntilAddresses(t)
	if err := snapshot.Err(); !errors.As(err, &unknown) || !slices.Equal(unknown.KnownAPIs, []string{"auth"}) {
		t.Errorf("of a misspelt name: %v, want an UnknownAPIError that names auth as known", err)
	}
}

func separatesAPIs(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	Register(t, here,
		Instance("user", "10.0.0.1:1"), Instance("user_admin", "10.0.0.1:1"), Instance("user.admin", "10.0.0.1:1"), Instance("use", "10.0.0.2:1"))
	got := Watch(t, elsewhere, "user").UntilAddresses(t, "10.0.0.1:1")
	if got.API != "user" || got.Instances[0].API != "user" {
		t.Errorf("a watch of user was notified of %+v", got)
	}
}

func notifiesOfDraining(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	watched := Watch(t, elsewhere, "auth")
	registration := Register(t, here, Instance("auth", "10.0.0.1:1"))
	if err := watched.UntilAddresses(t, "10.0.0.1:1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := registration.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := watched.Until(t, "a draining instance", func(s discovery.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].State == discovery.Draining
	})
	var none *discovery.NoInstanceError
	if err := got.Err(); !errors.As(err, &none) || none.Draining != 1 {
		t.Errorf("with one draining instance: %v, want a NoInstanceError that counts it", err)
	}
}

func replacesAtAnAddress(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	first, second := Instance("auth", "10.0.0.1:1"), Instance("auth", "10.0.0.1:1")
	watched := Watch(t, here, "auth")
	Register(t, here, first)
	watched.UntilAddresses(t, "10.0.0.1:1")
	registration := Register(t, elsewhere, second)
	watched.Until(t, "the second incarnation alone", func(s discovery.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].Incarnation == second.Incarnation
	})
	Close(t, registration)
	watched.Until(t, "the first incarnation again", func(s discovery.Snapshot) bool {
		return len(s.Instances) == 1 && s.Instances[0].Incarnation == first.Incarnation
	})
}

func sortsInstances(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	Register(t, here, Instance("auth", "10.0.0.3:1"), Instance("auth", "10.0.0.1:1"))
	Register(t, elsewhere, Instance("auth", "10.0.0.2:1"))
	Watch(t, here, "auth").UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")
}

func removesOnlyTheClosed(t *testing.T, here, _ discovery.Registry) {
	t.Helper()
	watched := Watch(t, here, "auth")
	first := Register(t, here, Instance("auth", "10.0.0.1:1"), Instance("billing", "10.0.0.1:1"))
	Register(t, here, Instance("auth", "10.0.0.2:1"))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")
	Close(t, first)
	Close(t, first)
	watched.UntilAddresses(t, "10.0.0.2:1")
	Watch(t, here, "billing").UntilAddresses(t)
}

func refusesBadInstances(t *testing.T, here, _ discovery.Registry) {
	t.Helper()
	good := Instance("auth", "10.0.0.1:1")
	watched := Watch(t, here, "auth")
	for field, change := range map[string]func(*discovery.Instance){
		"API":     func(i *discovery.Instance) { i.API = "" },
		"Address": func(i *discovery.Instance) { i.Address = "0.0.0.0:1" },
		"State":   func(i *discovery.Instance) { i.State = "asleep" },
	} {
		t.Run(field, func(t *testing.T) {
			bad := good
			change(&bad)
			_, err := here.Register(good, bad)
			var instanceError *discovery.InstanceError
			if !errors.As(err, &instanceError) || instanceError.Field != field {
				t.Errorf("Register = %v, want an InstanceError of %s", err, field)
			}
		})
	}
	watched.UntilAddresses(t)
}

func notifiesNoMoreAfterStop(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	stopped, other := Watch(t, here, "auth"), Watch(t, here, "auth")
	stopped.UntilAddresses(t)
	stopped.Stop()
	stopped.Stop()
	before := len(stopped.Snapshots())
	Register(t, elsewhere, Instance("auth", "10.0.0.1:1"))
	other.UntilAddresses(t, "10.0.0.1:1")
	if now := len(stopped.Snapshots()); now != before {
		t.Errorf("notified of %d snapshots after its stop", now-before)
	}
	other.Stop()
	Watch(t, here, "auth").UntilAddresses(t, "10.0.0.1:1")
}

func returnsDescriptors(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	with, without := Instance("auth", "10.0.0.1:1"), Instance("billing", "10.0.0.1:1")
	with.Schema, with.Descriptors = "sha256:abc", "compressed"
	Register(t, here, with, without)
	for api, want := range map[string]string{"auth": "compressed", "billing": ""} {
		for name, registry := range map[string]discovery.Registry{"here": here, "elsewhere": elsewhere} {
			found := Watch(t, registry, api).UntilAddresses(t, "10.0.0.1:1").Instances[0]
			if got, err := registry.Descriptors(eventually.Context(t), found); got != want || err != nil {
				t.Errorf("the descriptors of %s, read %s, are %q, %v; want %q", api, name, got, err, want)
			}
		}
	}
}

func reportsTheStatus(t *testing.T, here, _ discovery.Registry) {
	t.Helper()
	began := time.Now()
	registration := Register(t, here, Instance("auth", "10.0.0.1:1"))
	status := registration.Status()
	if !status.Registered || status.Err != nil || status.Since.Before(began) || status.Since.After(time.Now()) {
		t.Errorf("after registering the status is %+v, want registered since then", status)
	}
	if !status.Expires.IsZero() && !status.Expires.After(began) {
		t.Errorf("the instance expired at %v, before it was registered", status.Expires)
	}
	Close(t, registration)
	eventually.Receive(t, "a change of the status", status.Changed)
	if status := registration.Status(); status.Registered {
		t.Errorf("after Close the status is %+v", status)
	}
}

func reportsLastSeen(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	began := time.Now().Truncate(time.Second)
	watched := Watch(t, elsewhere, "auth")
	if snapshot := watched.UntilAddresses(t); !snapshot.LastSeen.IsZero() {
		t.Errorf("an API that was never served was last seen at %v", snapshot.LastSeen)
	}
	registration := Register(t, here, Instance("auth", "10.0.0.1:1"))
	watched.UntilAddresses(t, "10.0.0.1:1")
	Close(t, registration)
	for _, watched := range []*Watched{watched, Watch(t, here, "auth")} {
		snapshot := watched.UntilAddresses(t)
		if snapshot.LastSeen.Before(began) || snapshot.LastSeen.After(time.Now()) {
			t.Errorf("an instance was last seen at %v, want a time after %v", snapshot.LastSeen, began)
		}
	}
}

func notifiesEveryObserver(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	const observers = 8
	var all [observers]*Watched
	var starting sync.WaitGroup
	for i := range all {
		starting.Go(func() {
			registry := here
			if i%2 == 1 {
				registry = elsewhere
			}
			all[i] = Watch(t, registry, "auth")
		})
	}
	registration := Register(t, here, Instance("auth", "10.0.0.1:1"))
	Register(t, elsewhere, Instance("auth", "10.0.0.2:1"))
	starting.Wait()
	Close(t, registration)
	for _, watched := range all {
		watched.UntilAddresses(t, "10.0.0.2:1")
	}
}
