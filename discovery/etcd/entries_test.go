package etcd_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/eventually"
)

// TestEntriesAreAllKeysAndWhatIsWrongWithThem registers an instance, and puts keys beside
// it.
func TestEntriesAreAllKeysAndWhatIsWrongWithThem(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	registry := open(t, shared, namespace)
	registered := discovery.Instance{API: "auth", Address: "10.0.0.1:8443", Incarnation: discovery.NewIncarnation(), Descriptors: "compressed"}
	registration, err := registry.Register(registered)
	if err != nil {
		t.Fatal(err)
	}
	if err := discovery.AwaitRegistered(eventually.Context(t), registration); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{
		"/apis/auth/broken":       "no JSON",
		"/apis/auth":              "x",
		"/apis/a b/x":             "{}",
		"/apis/user/10.0.0.2:80":  `{"Addr":"10.0.0.2:80"}`,
		"/schemas/auth/forgotten": "x",
		"/known/a/b":              "{}",
	} {
		if _, err := direct.Put(t.Context(), namespace+key, value); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := registry.Entries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		text, leased := "", ""
		if entry.Err != nil {
			text, _, _ = strings.Cut(entry.Err.Error(), ":")
		}
		if entry.Lease != 0 {
			leased = "leased "
		}
		key := strings.ReplaceAll(strings.TrimPrefix(entry.Key, namespace), registered.Incarnation.String(), "INCARNATION")
		got = append(got, fmt.Sprintf("%s %s%s %s", key, leased, entry.Instance.Address, text))
	}
	want := []string{
		`/apis/a b/x  API "a b"`,
		"/apis/auth  the key has no instance after the name of its API",
		"/apis/auth/INCARNATION leased 10.0.0.1:8443 ",
		"/apis/auth/broken  not etcd's naming format",
		"/apis/user/10.0.0.2:80 10.0.0.2:80 ",
		`/known/a/b  API "a/b"`,
		"/known/auth  ",
		"/schemas/auth/INCARNATION  ",
		"/schemas/auth/forgotten  these descriptors belong to no instance",
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if names, err := registry.APIs(t.Context()); err != nil || !slices.Equal(names, []string{"auth"}) {
		t.Errorf("the APIs are %q (%v)", names, err)
	}
}

// TestManyKeysAreReadPageByPage reads more keys than one page has.
func TestManyKeysAreReadPageByPage(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	registry := open(t, shared, namespace)
	const perPut, puts = 100, 23 // etcd allows 128 in one request
	for i := range puts {
		var ops []clientv3.Op
		for j := range perPut {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/known/api%04d", namespace, i*perPut+j), "{}"))
		}
		if _, err := direct.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := registry.APIs(t.Context()); err != nil || len(names) != puts*perPut || names[len(names)-1] != "api2299" {
		t.Errorf("%d APIs (%v)", len(names), err)
	}
	registry.ReadAtMost(1_000, 1)
	if _, err := registry.APIs(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 1000 keys") {
		t.Errorf("too many keys: %v", err)
	}
}

// TestEntriesOfAnEtcdThatIsAwayAreAnError uses a port that refuses connections.
func TestEntriesOfAnEtcdThatIsAwayAreAnError(t *testing.T) {
	t.Parallel()
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{"http://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	for name, read := range map[string]func() error{
		"APIs":    func() error { _, err := registry.APIs(eventually.Context(t)); return err },
		"Entries": func() error { _, err := registry.Entries(eventually.Context(t)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			err := read()
			if _, is := errors.AsType[*discovery.UnreachableError](err); !is || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("got %v", err)
			}
		})
	}
}
