package etcd_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
)

// shared is the etcd of all tests that leave it alone; each has a namespace of
// its own.
var shared *embed.Server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		server, err := embed.Start(context.Background(), embed.Config{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		shared = server
		code := m.Run()
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if err := cluster.Leaks(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		return code
	}())
}

// openedTTL is the TTL of registries in tests that have no reason for another.
const openedTTL = 3 * time.Second

var namespaces atomic.Int64

func newNamespace() string { return fmt.Sprintf("test/%d", namespaces.Add(1)) }

// open opens a registry for the length of the test.
func open(t *testing.T, server *embed.Server, namespace string) *etcd.Registry {
	t.Helper()
	registry, err := etcd.Open(etcd.Config{
		Endpoints: server.Endpoints(),
		Namespace: namespace,
		TTL:       openedTTL,
		Logger:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := registry.Close(); err != nil {
			t.Error(err)
		}
	})
	return registry
}

// client is etcd's own, to look behind the registry's back.
func client(t *testing.T, server *embed.Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: server.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// entries reads the keys of an API.
func entries(t *testing.T, client *clientv3.Client, namespace, api string) map[string]*mvccpb.KeyValue {
	t.Helper()
	reply, err := client.Get(t.Context(), namespace+"/apis/"+api+"/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]*mvccpb.KeyValue)
	for _, kv := range reply.Kvs {
		out[string(kv.GetKey())] = kv
	}
	return out
}

func TestRegistryPassesTheSuite(t *testing.T) {
	t.Parallel()
	discoverytest.Run(t, func(t *testing.T) (discovery.Registry, discovery.Registry) {
		t.Helper()
		t.Parallel()
		namespace := newNamespace()
		here, elsewhere := open(t, shared, namespace), open(t, shared, namespace)
		for _, registry := range []*etcd.Registry{here, elsewhere} { // a busy machine is no etcd that is away
			registry.ListWithin(eventually.Limit, eventually.Limit)
		}
		return here, elsewhere
	})
}

func TestNamespacesAreApart(t *testing.T) {
	t.Parallel()
	discoverytest.Register(t, open(t, shared, "apart/a"), discoverytest.Instance("auth", "10.0.0.1:1"))
	snapshot := discoverytest.Watch(t, open(t, shared, "apart/b"), "auth").UntilAddresses(t)
	if snapshot.Known {
		t.Error("auth is known in a namespace where nobody served it")
	}
}

func TestKeysAndValuesAreAsDocumented(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	instance := discoverytest.Instance("auth", "10.0.0.1:1")
	instance.Zone = "zone-a"
	registration := discoverytest.Register(t, open(t, shared, namespace), instance)

	found := entries(t, direct, namespace, "auth")
	key := namespace + "/apis/auth/" + instance.Incarnation.String()
	if len(found) != 1 || found[key] == nil {
		t.Fatalf("the keys are %v, want %s alone", found, key)
	}
	kv := found[key]
	want := fmt.Sprintf(`{"Op":0,"Addr":"10.0.0.1:1","Metadata":{"incarnation":%q,"service":"auth.v1.Service","state":"serving","zone":"zone-a"}}`, instance.Incarnation)
	if string(kv.GetValue()) != want {
		t.Errorf("the value is %s, want %s", kv.GetValue(), want)
	}
	lease, err := direct.TimeToLive(t.Context(), clientv3.LeaseID(kv.GetLease()))
	if err != nil || lease.GrantedTTL != 3 {
		t.Errorf("the lease is %+v (%v), want one of 3 s", lease, err)
	}
	discoverytest.Close(t, registration)
	if left := entries(t, direct, namespace, "auth"); len(left) != 0 {
		t.Errorf("a closed registration left %v", left)
	}
	if lease, err := direct.TimeToLive(t.Context(), clientv3.LeaseID(kv.GetLease())); err != nil || lease.TTL != -1 {
		t.Errorf("the lease of a closed registration is %+v (%v), want none", lease, err)
	}
	known, err := direct.Get(t.Context(), namespace+"/known/auth")
	if err != nil || known.Count != 1 || known.Kvs[0].GetLease() != 0 || !strings.HasPrefix(string(known.Kvs[0].GetValue()), `{"seen":"20`) {
		t.Errorf("the mark of a known API is %v (%v), want one without a lease", known, err)
	}
}

func TestARegistrationOutlivesItsLeaseAndItsKeys(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	registry := open(t, shared, namespace)
	watched := discoverytest.Watch(t, registry, "auth")
	instance := discoverytest.Instance("auth", "10.0.0.1:1")
	registration := discoverytest.Register(t, registry, instance)
	watched.UntilAddresses(t, "10.0.0.1:1")
	key := namespace + "/apis/auth/" + instance.Incarnation.String()

	// Longer than the lease, so that only keep-alive can have kept it.
	first := entries(t, direct, namespace, "auth")[key]
	untilKeptFor(t, registration, openedTTL)
	if now := entries(t, direct, namespace, "auth")[key]; now.GetModRevision() != first.GetModRevision() || now.GetLease() != first.GetLease() {
		t.Errorf("after more than a lease the entry is %+v, before it was %+v", now, first)
	}

	for _, fault := range []struct {
		name string
		do   func() error
	}{
		{"the lease is revoked", func() error {
			_, err := direct.Revoke(t.Context(), clientv3.LeaseID(entries(t, direct, namespace, "auth")[key].GetLease()))
			return err
		}},
		{"the key is deleted", func() error {
			_, err := direct.Delete(t.Context(), key)
			return err
		}},
		{"the key is overwritten", func() error {
			_, err := direct.Put(t.Context(), key, `{"Addr":"10.6.6.6:6"}`)
			return err
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			before := entries(t, direct, namespace, "auth")[key]
			if err := fault.do(); err != nil {
				t.Fatal(err)
			}
			eventually.True(t, "as it was", func() bool {
				now := entries(t, direct, namespace, "auth")[key]
				return now.GetModRevision() > before.GetModRevision() && bytes.Equal(now.GetValue(), before.GetValue()) && now.GetLease() != 0
			})
			watched.UntilAddresses(t, "10.0.0.1:1")
		})
	}
}

func TestEntriesThatCannotBeUsedAreSkippedAndCounted(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	bad := map[string]string{
		"not-json":        `{"Addr":`,
		"empty":           ``,
		"no-address":      `{"Op":0,"Metadata":null}`,
		"any-address":     `{"Op":0,"Addr":"0.0.0.0:80"}`,
		"no-port":         `{"Op":0,"Addr":"10.0.0.1"}`,
		"port-too-high":   `{"Op":0,"Addr":"10.0.0.1:99999"}`,
		"a-deletion":      `{"Op":1,"Addr":"10.0.0.1:1"}`,
		"huge":            `{"Op":0,"Addr":"10.0.0.1:1","Metadata":"` + strings.Repeat("x", 1<<20) + `"}`,
		"bad-incarnation": `{"Op":0,"Addr":"10.0.0.1:1","Metadata":{"incarnation":"zzz"}}`,
		"bad-state":       `{"Op":0,"Addr":"10.0.0.1:1","Metadata":{"incarnation":"AAAAAAAAAAAAAAAAAAAAAQ","state":"odd"}}`,
	}
	for name, value := range bad {
		if _, err := direct.Put(t.Context(), namespace+"/apis/auth/"+name, value); err != nil {
			t.Fatal(err)
		}
	}
	// What others register in etcd's own format is used.
	for name, value := range map[string]string{
		"official":       `{"Op":0,"Addr":"10.0.0.7:1","Metadata":"anything"}`,
		"other-metadata": `{"Op":0,"Addr":"10.0.0.8:1","Metadata":{"version":3}}`,
	} {
		if _, err := direct.Put(t.Context(), namespace+"/apis/auth/"+name, value); err != nil {
			t.Fatal(err)
		}
	}
	registry := open(t, shared, namespace)
	watched := discoverytest.Watch(t, registry, "auth")
	watched.UntilAddresses(t, "10.0.0.7:1", "10.0.0.8:1")
	if got := registry.Stats().Skipped; got != uint64(len(bad)) {
		t.Errorf("%d entries were counted as skipped, want %d", got, len(bad))
	}
	// A good entry that turns bad is used no more.
	if _, err := direct.Put(t.Context(), namespace+"/apis/auth/official", "broken"); err != nil {
		t.Fatal(err)
	}
	watched.UntilAddresses(t, "10.0.0.8:1")
}

func TestAWatchGoesOnAfterCompaction(t *testing.T) {
	t.Parallel()
	server, err := embed.Start(t.Context(), embed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	namespace, direct := newNamespace(), client(t, server)
	watched := discoverytest.Watch(t, open(t, server, namespace), "auth")
	watched.UntilAddresses(t)
	for i := range 5 {
		address := fmt.Sprintf("10.0.0.%d:1", i+1)
		put, err := direct.Put(t.Context(), namespace+"/apis/auth/one", `{"Addr":"`+address+`"}`)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := direct.Compact(t.Context(), put.Header.GetRevision()); err != nil {
			t.Fatal(err)
		}
		watched.UntilAddresses(t, address)
	}
}
