package etcd_test

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/cluster"
	"github.com/onecall-dev/onecall/internal/testlog"
)

// TestTheLogHasTheGoodNewsToo revokes a lease, and has etcd away.
func TestTheLogHasTheGoodNewsToo(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	registry, lines := openLogged(t, c)
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	discoverytest.Watch(t, registry, "auth").UntilAddresses(t, "10.0.0.1:1")
	direct := c.Direct()
	again := `level=INFO msg="registered in etcd again" apis=auth entries=\d+ lease=[0-9a-f]+ after=[0-9.]+m?s`

	lease := leaseOf(t, direct, "onecall", "auth")
	if _, err := direct.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	logged(t, lines, `level=WARN msg="the lease has ended in etcd`, again)

	c.Member(0).Cut()
	eventually.True(t, "found out", func() bool { return !registration.Status().Registered && registry.Stats().ReadError != nil })
	// As they have it who ask before the log has it.
	if since := registration.Status().Since; time.Since(since) < 0 || time.Since(since) > time.Minute {
		t.Errorf("it is no longer registered since %v", since)
	}
	c.Member(0).Heal()
	logged(t, lines, again, again, `level=INFO msg="writing to etcd works again" after=[0-9.]+m?s`, `level=INFO msg="reading from etcd works again" after=[0-9.]+m?s`)
	if text := lines.String(); strings.Contains(text, "<nil>") {
		t.Errorf("the log has an error that is none:\n%s", text)
	}
}

// logged waits until the log has lines like the patterns, each as often as it is
// given.
func logged(t *testing.T, lines *testlog.Log, patterns ...string) {
	t.Helper()
	want := make(map[string]int)
	for _, pattern := range patterns {
		want[pattern]++
	}
	for pattern, count := range want {
		like := regexp.MustCompile(pattern)
		eventually.True(t, fmt.Sprintf("%d lines like %q", count, pattern), func() bool { return len(like.FindAllString(lines.String(), -1)) >= count })
	}
}

// callingBack is a log's handler that calls the registry with each line, as one
// does that adds how the registry is to what it writes.
type callingBack struct {
	slog.Handler

	registry atomic.Pointer[etcd.Registry]
	called   atomic.Int64
}

func (h *callingBack) Handle(context.Context, slog.Record) error {
	registry := h.registry.Load()
	if registry == nil {
		return nil
	}
	_ = registry.Stats()
	registry.Watch("other", func(discovery.Snapshot) {})()
	registration, err := registry.Register(discovery.Instance{API: "other", Address: "10.0.0.9:1", Incarnation: discovery.NewIncarnation()})
	if err == nil {
		_ = registration.Status()
		ended, end := context.WithCancel(context.Background())
		end()
		_ = registration.Close(ended)
	}
	h.called.Add(1)
	return nil
}

func (h *callingBack) Enabled(context.Context, slog.Level) bool { return true }

// TestALogsHandlerMayCallTheRegistry has lines of every kind logged.
func TestALogsHandlerMayCallTheRegistry(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, 1)
	handler := &callingBack{Handler: slog.DiscardHandler}
	registry, err := etcd.Open(etcd.Config{Endpoints: c.Endpoints(), TTL: 3 * time.Second, Logger: slog.New(handler)})
	if err != nil {
		t.Fatal(err)
	}
	handler.registry.Store(registry)
	registration := discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched := discoverytest.Watch(t, registry, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1")
	direct := c.Direct()
	if _, err := direct.Put(t.Context(), "onecall/apis/auth/bad", "bad"); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "skipped", func() bool { return registry.Stats().Skipped > 0 })
	if _, err := direct.Delete(t.Context(), "onecall/apis/auth/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	watched.UntilAddresses(t, "10.0.0.1:1")
	c.Member(0).Cut()
	eventually.True(t, "found out", func() bool { return !registration.Status().Registered && registry.Stats().ReadError != nil })
	c.Member(0).Heal()
	eventually.True(t, "registered", func() bool { return registration.Status().Registered && registry.Stats().ReadError == nil })
	discoverytest.Close(t, registration)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = registry.Close()
	}()
	eventually.Receive(t, "the end of Close", closed)
	if handler.called.Load() < 5 {
		t.Errorf("%d lines were logged: this test shows nothing", handler.called.Load())
	}
}
