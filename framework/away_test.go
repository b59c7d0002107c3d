package framework_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestAFirstCallWhileEtcdIsAwayDoesNotWaitForItsDeadline uses an endpoint where no etcd
// listens.
func TestAFirstCallWhileEtcdIsAwayDoesNotWaitForItsDeadline(t *testing.T) {
	t.Parallel()
	bus := newBus(t, openEtcd(t, "http://127.0.0.1:1"))
	ended := make(chan error, 1)
	go func() {
		_, err := testv1.NewEchoServiceClient(bus).Echo(context.Background(), &testv1.EchoRequest{}, framework.Timeout(24*time.Hour))
		ended <- err
	}()
	err := eventually.Receive(t, "the end of the call", ended)
	unreachable, ok := errors.AsType[*discovery.UnreachableError](err)
	if !ok || status.Code(err) != codes.Unavailable || framework.OutcomeOf(err) != framework.NotSent {
		t.Fatalf("the call = %v", err)
	}
	for _, part := range []string{"etcd at http://127.0.0.1:1", unreachable.Since.UTC().Format(time.RFC3339), "is etcd running, and is this its client port?"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q does not say %q", err, part)
		}
	}
}

// callingBack is a log's handler that calls the bus, and the registry below it,
// with each line.
type callingBack struct {
	slog.Handler

	call  atomic.Pointer[func()]
	lines atomic.Int64
}

func (h *callingBack) Enabled(context.Context, slog.Level) bool { return true }

func (h *callingBack) Handle(context.Context, slog.Record) error {
	h.lines.Add(1)
	if call := h.call.Load(); call != nil {
		(*call)()
	}
	return nil
}

func (h *callingBack) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h *callingBack) WithGroup(string) slog.Handler { return h }

// TestALogsHandlerMayCallTheBus makes a bus and a service log lines.
func TestALogsHandlerMayCallTheBus(t *testing.T) {
	t.Parallel()
	digest, packed := changed(t, func(file *descriptorpb.FileDescriptorProto) { file.MessageType[0].Field[0].Number = new(int32(9)) })
	registry := memory.New()
	handler := &callingBack{Handler: slog.DiscardHandler}
	logger := framework.Logger(slog.New(handler))
	bus := newBus(t, registry, logger, framework.StrictSchema())
	call := func() {
		_ = bus.Stats().IncompatibleSchemas
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_ = bus.Ready(ctx, "test.echo")
		_, _ = testv1.NewEchoServiceClient(bus).EchoSoon(ctx, &testv1.EchoSoonRequest{})
		_, _ = bus.Describe(ctx, "nobody.serves")
		registry.Watch("test.echo", func(discovery.Snapshot) {})()
		if registered, err := registry.Register(discovery.Instance{API: "test.other", Address: "10.0.0.3:443"}); err == nil {
			_ = registered.Close(ctx)
		}
	}
	handler.call.Store(&call)
	serveAny(t, registry, (&echo{}).register, logger)
	ready(t, bus, "test.echo")
	registered, err := registry.Register(discovery.Instance{
		API: "test.echo", Address: "10.0.0.2:443", Incarnation: discovery.NewIncarnation(), Service: "onecall.test.v1.EchoService", Schema: digest, Descriptors: packed,
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the schema is found incompatible", func() bool { return bus.Stats().IncompatibleSchemas == 1 })
	if err := registered.Close(t.Context()); err != nil {
		t.Error(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- bus.Close() }()
	if err := eventually.Receive(t, "the end of Close", closed); err != nil {
		t.Error(err)
	}
	if handler.lines.Load() < 2 {
		t.Errorf("%d lines were logged: this test shows nothing", handler.lines.Load())
	}
}
