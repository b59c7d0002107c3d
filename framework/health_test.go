package framework_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// scriptedHealth is a health service that follows a script.
type scriptedHealth struct {
	grpc_health_v1.UnimplementedHealthServer

	streams atomic.Int64
	// stream handles a stream. It gets the number of the stream, from 1.
	stream func(number int64, stream grpc_health_v1.Health_WatchServer) error
	check  func(context.Context) error
}

func (h *scriptedHealth) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc_health_v1.Health_WatchServer) error {
	return h.stream(h.streams.Add(1), stream)
}

func (h *scriptedHealth) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if h.check != nil {
		if err := h.check(ctx); err != nil {
			return nil, err
		}
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// say sends the instance's status.
func say(stream grpc_health_v1.Health_WatchServer, health grpc_health_v1.HealthCheckResponse_ServingStatus) error {
	return stream.Send(&grpc_health_v1.HealthCheckResponse{Status: health})
}

// withHealth serves the test APIs with a health service of its own, in memory, and
// returns a bus that calls it, and a function that ends the service.
func withHealth(t *testing.T, health *scriptedHealth, options ...framework.BusOption) (*framework.Bus, func()) {
	t.Helper()
	listener, registry := bufconn.Listen(1<<20), memory.New()
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		returned <- framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
			(&echo{}).register(apis)
			grpc_health_v1.RegisterHealthServer(apis, health)
		}, quiet, framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"))
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-returned
	})
	t.Cleanup(stop)
	serving(t, registry, 1)
	return newBus(t, registry, append(options, framework.DialOptions(
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })))...), stop
}

// TestAnIdleStreamThatAProxyEndsIsNoFault ends each health stream a second after its
// message, as a proxy with a read timeout does.
func TestAnIdleStreamThatAProxyEndsIsNoFault(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]error{
		"reset":       status.Error(codes.Unavailable, "upstream timed out"),
		"gateway":     status.Error(codes.Internal, "stream terminated by RST_STREAM"),
		"without any": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				health := &scriptedHealth{stream: func(_ int64, stream grpc_health_v1.Health_WatchServer) error {
					if err := say(stream, grpc_health_v1.HealthCheckResponse_SERVING); err != nil {
						return err
					}
					select {
					case <-time.After(time.Second):
						return end
					case <-stream.Context().Done():
						return nil
					}
				}}
				bus, _ := withHealth(t, health)
				ready(t, bus, "test.echo")
				client := testv1.NewEchoServiceClient(bus)
				for range 600 {
					if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
						t.Fatalf("after %d streams a call failed: %v", health.streams.Load(), err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if health.streams.Load() < 10 {
					t.Errorf("in a minute %d streams were opened", health.streams.Load())
				}
			})
		})
	}
}

func TestAnInstanceThatDoesNotServeIsNotCalled(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stream func(number int64, stream grpc_health_v1.Health_WatchServer) error
		want   string
	}{
		"by its own word": {func(_ int64, stream grpc_health_v1.Health_WatchServer) error {
			if err := say(stream, grpc_health_v1.HealthCheckResponse_NOT_SERVING); err != nil {
				return err
			}
			<-stream.Context().Done()
			return nil
		}, "says that it does not serve"},
		"behind an interceptor that refuses the question": {func(int64, grpc_health_v1.Health_WatchServer) error {
			return status.Error(codes.PermissionDenied, "who are you?")
		}, "must let /grpc.health.v1.Health/Watch pass"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				bus, _ := withHealth(t, &scriptedHealth{stream: test.stream})
				_, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
				if err == nil || framework.OutcomeOf(err) != framework.NotSent || !strings.Contains(err.Error(), test.want) {
					t.Errorf("a call = %v, want one that was not sent and says %q", err, test.want)
				}
			})
		})
	}
}

// TestAServerThatNeverAnswersTheHealthStreamIsUsed uses a proxy that holds back the
// replies of streams.
func TestAServerThatNeverAnswersTheHealthStreamIsUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus, _ := withHealth(t, &scriptedHealth{stream: func(_ int64, stream grpc_health_v1.Health_WatchServer) error {
			<-stream.Context().Done()
			return nil
		}})
		start := time.Now()
		ready(t, bus, "test.echo")
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("ready after %v", took)
		}
		if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			t.Error(err)
		}
	})
}
