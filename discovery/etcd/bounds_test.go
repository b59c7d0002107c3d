package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/testlog"
)

// TestAPIsAreListedTogether has no listing answered before ten are there.
func TestAPIsAreListedTogether(t *testing.T) {
	t.Parallel()
	front, registry, direct := newFront(t)
	const together, apis = 10, 50
	var mu sync.Mutex // guards the two below
	now, most := 0, 0
	met := make(chan struct{})
	wait := func(ctx context.Context, _ string) {
		mu.Lock()
		now++
		most = max(most, now)
		if now == together {
			select {
			case <-met:
			default:
				close(met)
			}
		}
		mu.Unlock()
		select {
		case <-met:
		case <-ctx.Done():
		}
		mu.Lock()
		now--
		mu.Unlock()
	}
	front.onList.Store(&wait)
	instances := make([]discovery.Instance, apis)
	for i := range instances {
		instances[i] = discoverytest.Instance(fmt.Sprintf("api%d", i), "10.0.0.1:1")
	}
	discoverytest.Register(t, direct, instances...)
	for _, instance := range instances {
		t.Cleanup(registry.Watch(instance.API, func(discovery.Snapshot) {}))
	}
	for _, instance := range instances {
		discoverytest.Watch(t, registry, instance.API).UntilAddresses(t, "10.0.0.1:1")
	}
	mu.Lock()
	defer mu.Unlock()
	if most < together || most > 16 {
		t.Errorf("%d APIs were listed at once, want %d to 16", most, together)
	}
}

// openNoting opens a registry on the shared etcd whose log is kept.
func openNoting(t *testing.T, namespace string) (*etcd.Registry, *testlog.Log) {
	t.Helper()
	lines := new(testlog.Log)
	registry, err := etcd.Open(etcd.Config{Endpoints: shared.Endpoints(), Namespace: namespace, Logger: lines.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry, lines
}

// TestABadValueIsOneShortLineAMinute puts the same bad values again and again.
func TestABadValueIsOneShortLineAMinute(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	registry, lines := openNoting(t, namespace)
	watched := discoverytest.Watch(t, registry, "auth")
	watched.Until(t, "an answer", func(s discovery.Snapshot) bool { return s.Unreachable == nil })
	long := strings.Repeat("x", 20_000)
	quoted := `a\nERROR forged\u001b[31m` + long
	bad := map[string]string{
		"address":          `{"Addr":"` + quoted + `:1"}`,
		"port":             `{"Addr":"10.0.0.1:` + quoted + `"}`,
		"state":            `{"Addr":"10.0.0.1:1","Metadata":{"incarnation":"` + discovery.NewIncarnation().String() + `","state":"` + quoted + `"}}`,
		"version":          `{"Addr":"10.0.0.1:1","Metadata":{"incarnation":"` + discovery.NewIncarnation().String() + `","version":"` + quoted + `"}}`,
		"incarnation":      `{"Addr":"10.0.0.1:1","Metadata":{"incarnation":"` + quoted + `"}}`,
		"number":           `{"Addr":"10.0.0.1:1","Op":1` + strings.Repeat("0", 10_000) + `}`,
		"time":             `{"Addr":"10.0.0.1:1","Metadata":{"incarnation":"` + discovery.NewIncarnation().String() + `","started":"` + quoted + `"}}`,
		"key\n" + long:     `bad`,
		"socket":           `{"Addr":"unix:1234"}`,
		"another's socket": `{"Addr":"unix:1234","Metadata":"any"}`,
	}
	const times = 30
	for range times {
		for key, value := range bad {
			if _, err := direct.Put(t.Context(), namespace+"/apis/auth/"+key, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually.True(t, "skipped", func() bool { return registry.Stats().Skipped >= uint64(times*len(bad)) })
	text := lines.String()
	if got := strings.Count(text, "can't be used"); got < len(bad) || got > 2*len(bad) { // a minute may have passed
		t.Errorf("%d lines are about the %d bad values, want one of each", got, len(bad))
	}
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if len(line) > 1000 || !strings.HasPrefix(line, "time=") || strings.Contains(line, "\x1b") {
			t.Errorf("a line has %d bytes: %.500q", len(line), line)
		}
	}
	if snapshot := watched.Snapshots(); len(snapshot[len(snapshot)-1].Instances) != 0 {
		t.Errorf("in use is %+v", snapshot[len(snapshot)-1].Instances)
	}
	// What has a long key is found again when it is removed.
	if _, err := direct.Delete(t.Context(), namespace+"/apis/auth/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.2:1"))
	watched.UntilAddresses(t, "10.0.0.2:1")
}

// TestNamesThatAreNoneAreNotSuggested puts keys below known/ that no API has.
func TestNamesThatAreNoneAreNotSuggested(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	registry := open(t, shared, namespace)
	for _, name := range []string{"a\nERROR forged", strings.Repeat("x", 200_000) + "\n", "with space", "auth", "auth.v1.AuthService"} {
		if _, err := direct.Put(t.Context(), namespace+"/known/"+name, "{}"); err != nil {
			t.Fatal(err)
		}
	}
	watched := discoverytest.Watch(t, registry, "nobody")
	watched.Until(t, "names", func(s discovery.Snapshot) bool { return len(s.KnownAPIs) > 0 })
	snapshots := watched.Snapshots()
	err := snapshots[len(snapshots)-1].Err()
	unknown, ok := errors.AsType[*discovery.UnknownAPIError](err)
	if !ok || strings.Join(unknown.KnownAPIs, " ") != "auth auth.v1.AuthService" || len(err.Error()) > 500 {
		t.Errorf("the error is %.300v", err)
	}
}

// TestLargeValuesDoNotHideInstances has more bytes at an API's keys than one answer
// may have.
func TestLargeValuesDoNotHideInstances(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	for i := range 40 {
		if _, err := direct.Put(t.Context(), fmt.Sprintf("%s/apis/auth/%02d", namespace, i), strings.Repeat("x", 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_, _ = direct.Delete(context.Background(), namespace+"/apis/auth/", clientv3.WithPrefix())
	})
	if _, err := direct.Put(t.Context(), namespace+"/apis/auth/zz", `{"Addr":"10.0.0.1:1"}`); err != nil {
		t.Fatal(err)
	}
	discoverytest.Watch(t, open(t, shared, namespace), "auth").UntilAddresses(t, "10.0.0.1:1")
}

func TestAnAPIWithTooManyKeysSaysSoAndHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	registry, lines := openNoting(t, namespace)
	registry.ReadAtMost(5, 1<<20)
	put := func(i int) {
		if _, err := direct.Put(t.Context(), fmt.Sprintf("%s/apis/auth/%d", namespace, i), fmt.Sprintf(`{"Addr":"10.0.0.%d:1"}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i <= 5; i++ {
		put(i)
	}
	discoverytest.Register(t, registry, discoverytest.Instance("billing", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, registry, "auth")
	watched.Until(t, "all", func(s discovery.Snapshot) bool { return len(s.Instances) == 5 })
	put(6)
	watched.Until(t, "an error", func(s discovery.Snapshot) bool {
		return s.Unreachable != nil && strings.Contains(s.Unreachable.Error(), "more than 5 keys")
	})
	discoverytest.Watch(t, registry, "billing").UntilAddresses(t, "10.0.0.1:1")
	if registry.Stats().ReadError != nil {
		t.Errorf("etcd can't be read, it says: %v", registry.Stats().ReadError)
	}
	if _, err := direct.Delete(t.Context(), namespace+"/apis/auth/6"); err != nil {
		t.Fatal(err)
	}
	watched.Until(t, "no error", func(s discovery.Snapshot) bool { return s.Unreachable == nil && len(s.Instances) == 5 })
	logged(t, lines, "an API can be read from etcd again", "cannot read from etcd")
}

// TestEventsThatEtcdPartsAreAllTakenIn has a revision with two events come in two
// messages.
func TestEventsThatEtcdPartsAreAllTakenIn(t *testing.T) {
	t.Parallel()
	front, registry, direct := newFront(t)
	front.fragment.Store(true)
	watched := discoverytest.Watch(t, registry, "auth")
	watched.Until(t, "an answer", func(s discovery.Snapshot) bool { return s.Unreachable == nil })
	discoverytest.Register(t, direct, discoverytest.Instance("auth", "10.0.0.1:1"), discoverytest.Instance("auth", "10.0.0.2:1"))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")
	if lists := front.lists.Load(); lists != 1 {
		t.Errorf("the API was listed %d times: this test shows nothing", lists)
	}
}

// TestWhatComesWhileAnAPIIsListedIsBounded has more come than is kept.
func TestWhatComesWhileAnAPIIsListedIsBounded(t *testing.T) {
	t.Parallel()
	front, registry, direct := newFront(t)
	registry.ReadAtMost(1000, 10_000)
	watched := discoverytest.Watch(t, registry, "auth")
	watched.Until(t, "an answer", func(s discovery.Snapshot) bool { return s.Unreachable == nil })
	streams := front.streams.Load()
	listed, goOn := make(chan struct{}, 100), make(chan struct{})
	hold := func(ctx context.Context, key string) {
		if strings.HasSuffix(key, "/billing/") {
			listed <- struct{}{}
			select {
			case <-goOn:
			case <-ctx.Done():
			}
		}
	}
	front.onList.Store(&hold)
	defer registry.Watch("billing", func(discovery.Snapshot) {})()
	<-listed
	for i := range 40 {
		instance := discoverytest.Instance("auth", fmt.Sprintf("10.0.0.%d:1", 1+i))
		instance.Version = strings.Repeat("v", 1000)
		discoverytest.Close(t, discoverytest.Register(t, direct, instance))
	}
	discoverytest.Register(t, direct, discoverytest.Instance("auth", "10.0.0.99:1"))
	close(goOn)
	watched.UntilAddresses(t, "10.0.0.99:1")
	if front.streams.Load() == streams {
		t.Error("all was kept: the stream goes on")
	}
}
