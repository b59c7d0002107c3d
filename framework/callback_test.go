package framework_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// callingLog is a log whose lines are sent by a call.
type callingLog struct {
	slog.Handler

	call func()
}

func (l *callingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (l *callingLog) Handle(context.Context, slog.Record) error { l.call(); return nil }
func (l *callingLog) WithAttrs([]slog.Attr) slog.Handler        { return l }
func (l *callingLog) WithGroup(string) slog.Handler             { return l }

// Such a log must not wait for the call that it logs a line of.
func TestALogMayCallTheInstanceThatALineIsAbout(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	plainInstance(t, registry)
	log := new(callingLog)
	bus := newBus(t, registry, framework.Logger(slog.New(log)))
	conn := dial(t, registry)
	var lines atomic.Int64
	log.call = func() {
		if lines.Add(1) > 5 {
			return
		}
		for _, call := range shapes {
			_ = call(t.Context(), bus, conn)
		}
	}
	for range 3 {
		for _, call := range shapes { // one of them needs connections of its own
			_ = call(t.Context(), bus, conn)
		}
	}
	if lines.Load() == 0 {
		t.Error("nothing was logged")
	}
}

// dialError is an error of a program's dialer. A comparison with it makes a call.
type dialError struct{ call func() }

func (e *dialError) Error() string { return "the dialer has no way there" }

func (e *dialError) Is(error) bool {
	e.call()
	return false
}

// The error of a call has the reason why there is no connection, which is an error of the
// program's own.
func TestTheErrorOfADialerMayMakeACall(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	if _, err := registry.Register(discovery.Instance{API: "test.echo", Address: "192.0.2.1:443", Incarnation: discovery.NewIncarnation()}); err != nil {
		t.Fatal(err)
	}
	var client testv1.EchoServiceClient
	var calls, within atomic.Int64
	failed := &dialError{}
	failed.call = func() {
		calls.Add(1)
		if within.Add(1) == 1 {
			_, _ = client.Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(100*time.Millisecond))
		}
		within.Add(-1)
	}
	client = testv1.NewEchoServiceClient(newBus(t, registry, framework.DialOptions(grpc.WithContextDialer(
		func(context.Context, string) (net.Conn, error) { return nil, failed },
	))))
	_, _ = client.Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(time.Second)) // by its end the dialer was asked
	_, err := client.Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(time.Second))
	if _, ok := errors.AsType[*framework.ConnectionError](err); !ok {
		t.Errorf("the call = %v, want a ConnectionError", err)
	}
	if calls.Load() == 0 {
		t.Error("the error was not compared")
	}
}
