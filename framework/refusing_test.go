package framework_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestAnInstanceThatRefusesAtOnceAttractsNoCalls makes one of three instances refuse all
// calls at once, so that it has the fewest calls under way.
func TestAnInstanceThatRefusesAtOnceAttractsNoCalls(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var refused, ran atomic.Int64
	shedding := grpc.ChainUnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		refused.Add(1)
		return nil, status.Error(codes.ResourceExhausted, "too many calls")
	})
	slow := &echo{ping: func(context.Context, string) (string, error) {
		time.Sleep(20 * time.Millisecond) // the length of a call, not a wait for something
		ran.Add(1)
		return "ran", nil
	}}
	serve(t, registry, slow)
	serve(t, registry, slow)
	serve(t, registry, &echo{}, framework.ServerOptions(shedding))
	serving(t, registry, 3)
	log := new(testlog.Log)
	bus := newBus(t, registry, framework.Logger(log.Logger()), framework.Retry(framework.RetryNone))
	ready(t, bus, "onecall.test.v1.PlainService")
	client := testv1.NewPlainServiceClient(bus)
	const callers, calls = 20, 50
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range calls {
				_, _ = client.Ping(t.Context(), &testv1.PingRequest{}, framework.Timeout(time.Minute))
			}
		})
	}
	all.Wait()
	if share := float64(refused.Load()) / (callers * calls); share > 0.15 || refused.Load() == 0 {
		t.Errorf("%d of %d calls went to the instance that refuses, %d to the others", refused.Load(), callers*calls, ran.Load())
	}
	log.Until(t, "an instance refuses calls", 1)
	if lines := log.Count("an instance refuses calls"); lines != 1 {
		t.Errorf("%d lines say that an instance refuses calls:\n%s", lines, log)
	}
}

// TestTheLogSaysThatAnInstanceIsAvoidedBackAndGone uses an instance that reports that it
// does not serve, then that it serves, and then ends.
func TestTheLogSaysThatAnInstanceIsAvoidedBackAndGone(t *testing.T) {
	t.Parallel()
	said := make(chan grpc_health_v1.HealthCheckResponse_ServingStatus)
	health := &scriptedHealth{stream: func(_ int64, stream grpc_health_v1.Health_WatchServer) error {
		for {
			select {
			case next := <-said:
				if err := say(stream, next); err != nil {
					return err
				}
			case <-stream.Context().Done():
				return nil
			}
		}
	}}
	log := new(testlog.Log)
	bus, stop := withHealth(t, health, framework.Logger(log.Logger()))
	connecting := make(chan error, 1)
	go func() { connecting <- bus.Ready(t.Context(), "test.echo") }()
	said <- grpc_health_v1.HealthCheckResponse_SERVING
	if err := <-connecting; err != nil {
		t.Fatal(err)
	}
	if log.Count("level=") != 0 {
		t.Errorf("a bus that is well logs:\n%s", log)
	}
	said <- grpc_health_v1.HealthCheckResponse_NOT_SERVING
	log.Until(t, "an instance is avoided", 1)
	said <- grpc_health_v1.HealthCheckResponse_SERVING
	log.Until(t, "an instance is back", 1)
	for range 3 { // which is logged once a minute
		said <- grpc_health_v1.HealthCheckResponse_NOT_SERVING
		said <- grpc_health_v1.HealthCheckResponse_SERVING
	}
	stop()
	log.Until(t, "an instance is gone", 1)
	if log.Count("an instance is avoided") != 1 || log.Count("an instance is back") != 1 {
		t.Errorf("of an instance that comes and goes the log says:\n%s", log)
	}
}
