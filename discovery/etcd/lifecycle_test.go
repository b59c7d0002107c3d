package etcd_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/internal/eventually"
)

// unused is an address where nothing listens.
const unused = "http://127.0.0.1:1"

// silent listens and never says a word.
func silent(t *testing.T) (endpoint string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String()
}

func TestNothingWaitsForAnEtcdThatIsAway(t *testing.T) {
	t.Parallel()
	for name, endpoint := range map[string]string{"nothing listens": unused, "it accepts and says nothing": silent(t)} {
		for _, user := range []string{"", "root"} {
			t.Run(name+", user "+user, func(t *testing.T) {
				t.Parallel()
				withoutEtcd(t, etcd.Config{Endpoints: []string{endpoint}, Username: user, Password: user})
			})
		}
	}
}

// withoutEtcd uses a registry whose etcd is away.
func withoutEtcd(t *testing.T, config etcd.Config) {
	t.Helper()
	var (
		registry     *etcd.Registry
		watched      *discoverytest.Watched
		registration discovery.Registration
	)
	eventually.Returns(t, "opening, watching and registering", func() {
		registry = openWith(t, config)
		watched = discoverytest.Watch(t, registry, "auth")
		var err error
		if registration, err = registry.Register(discoverytest.Instance("auth", "10.0.0.1:1")); err != nil {
			t.Fatal(err)
		}
	})
	snapshot := watched.Until(t, "an unreachable registry", func(s discovery.Snapshot) bool { return s.Unreachable != nil })
	if err := snapshot.Err(); !strings.Contains(err.Error(), "etcd at "+config.Endpoints[0]) {
		t.Errorf("notified of %v, which does not name the endpoint", err)
	}
	if err := registration.Drain(t.Context()); err != nil {
		t.Errorf("Drain of what etcd was never sent = %v", err)
	}
	for range 2 {
		if err := registration.Close(t.Context()); err != nil {
			t.Errorf("Close of what etcd was never sent = %v", err)
		}
	}
	eventually.Returns(t, "closing", func() {
		watched.Stop()
		if err := registry.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAClosedRegistryTakesNothing(t *testing.T) {
	t.Parallel()
	registry := openWith(t, etcd.Config{Endpoints: shared.Endpoints()})
	left := discoverytest.Register(t, openWith(t, etcd.Config{Endpoints: shared.Endpoints()}), discoverytest.Instance("other", "10.0.0.1:1"))
	registration, err := registry.Register(discoverytest.Instance("auth", "10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	discoverytest.AwaitRegistered(t, registration)
	for range 2 {
		if err := registry.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	if _, err := registry.Register(discoverytest.Instance("auth", "10.0.0.1:1")); err == nil {
		t.Error("Register on a closed registry is no error")
	}
	if err := registration.Drain(t.Context()); err == nil {
		t.Error("Drain on a closed registry is no error")
	}
	if err := registration.Close(t.Context()); err == nil {
		t.Error("Close of a registration that outlived its registry is no error")
	}
	snapshot := discoverytest.Watch(t, registry, "auth").Until(t, "anything", func(discovery.Snapshot) bool { return true })
	if err := snapshot.Err(); err == nil || !strings.Contains(err.Error(), "the registry is closed") {
		t.Errorf("a watch of a closed registry was notified of %v", err)
	}
	discoverytest.Close(t, left)
}

func TestARegistryIsSafeForAllGoroutines(t *testing.T) {
	t.Parallel()
	registry := openWith(t, etcd.Config{Endpoints: shared.Endpoints()})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			api := string(rune('a' + i%3))
			stop := registry.Watch(api, func(discovery.Snapshot) {})
			registration, err := registry.Register(discoverytest.Instance(api, "10.0.0.1:1"))
			if err != nil {
				return // closed meanwhile
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			_ = registration.Drain(ctx)
			_ = registration.Close(ctx)
			stop()
		})
	}
	all.Go(func() { _ = registry.Close() })
	all.Wait()
}

func TestEtcdMayGoAndComeBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := embed.Start(t.Context(), embed.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	endpoint := first.Endpoints()[0]
	registry := openWith(t, etcd.Config{Endpoints: []string{endpoint}})
	watched := discoverytest.Watch(t, registry, "auth")
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched.UntilAddresses(t, "10.0.0.1:1")
	if err := first.Close(); err != nil { // while it is watched, which it waits for
		t.Fatal(err)
	}
	second, err := embed.Start(t.Context(), embed.Config{Dir: dir, Listen: strings.TrimPrefix(endpoint, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	// What was registered stays so, for longer than its lease, and new things
	// can be registered.
	other := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.2:1"))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")
	direct := client(t, second)
	end := other.Status().Expires.Add(openedTTL)
	eventually.True(t, "kept alive for longer than the lease", func() bool {
		reply, err := direct.Get(t.Context(), "test/", clientv3.WithPrefix())
		if err != nil || reply.Count < 2 {
			t.Fatalf("etcd has %v (%v), want both instances", reply, err)
		}
		return other.Status().Expires.After(end)
	})
	discoverytest.Close(t, other)
	discoverytest.Close(t, registration)
	watched.UntilAddresses(t)
	_ = registry.Close()
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
