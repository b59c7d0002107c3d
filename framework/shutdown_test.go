package framework_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// soon is how long a shutdown without calls takes at most, with the default of
// ShutdownTimeout.
const soon = 3 * time.Second

// plainClient returns grpc-go's client of a service that is in memory.
func plainClient(t *testing.T, listener *bufconn.Listener) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// stopTimed ends a service and returns how long that took.
func stopTimed(running service) (time.Duration, error) {
	begun := time.Now()
	err := running.stop()
	return time.Since(begun), err
}

func TestNoCallerThatIsGoneHoldsUpAShutdown(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*raw){
		"no call at all": func(*raw) {},
		"a health watch": func(r *raw) {
			r.send(r.begin("/grpc.health.v1.Health/Watch"), &grpc_health_v1.HealthCheckRequest{})
		},
		"a health watch without a request": func(r *raw) { r.begin("/grpc.health.v1.Health/Watch") },
		"a reply that is never taken": func(r *raw) {
			r.send(r.begin(testv1.EchoService_EchoSoon_FullMethodName), &testv1.EchoSoonRequest{Text: strings.Repeat("x", 100_000)})
		},
		"a request that never comes": func(r *raw) { r.begin(testv1.EchoService_EchoSoon_FullMethodName) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, running, listener := inMemory(t, &echo{})
				conn, err := listener.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				call(newRaw(t, conn)) // and then it neither reads nor writes
				synctest.Wait()
				if took, err := stopTimed(running); err != nil || took > soon {
					t.Errorf("Serve ended after %v with %v, want nil, soon", took, err)
				}
			})
		})
	}
}

func TestStreamsOfGRPCsOwnServicesEndWithTheService(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(context.Context, *grpc.ClientConn) (recv func() error, err error){
		"health": func(ctx context.Context, conn *grpc.ClientConn) (func() error, error) {
			stream, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
			return func() error { _, err := stream.Recv(); return err }, err
		},
		"reflection": func(ctx context.Context, conn *grpc.ClientConn) (func() error, error) {
			stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
			if err == nil {
				err = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
			}
			return func() error { _, err := stream.Recv(); return err }, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				listener := bufconn.Listen(1 << 20)
				ctx, cancel := context.WithCancel(t.Context())
				returned := make(chan error, 1)
				go func() {
					returned <- framework.Serve(ctx, memory.New(), func(apis grpc.ServiceRegistrar) {
						testv1.RegisterEchoServiceServer(apis, &echo{})
						reflection.Register(apis.(reflection.GRPCServer))
					}, quiet, framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"))
				}()
				recv, err := begin(t.Context(), plainClient(t, listener))
				if err == nil {
					err = recv()
				}
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				cancel()
				for err == nil {
					err = recv()
				}
				if err := <-returned; err != nil || time.Since(begun) > soon {
					t.Errorf("Serve ended after %v with %v, want nil, soon", time.Since(begun), err)
				}
				if status.Code(err) != codes.Unavailable {
					t.Errorf("the stream ended with %v, want UNAVAILABLE", err)
				}
			})
		})
	}
}

// endless serves streams that go on until a function returns.
func endless(until func(testv1.EchoService_WatchServer) error) *echo {
	return &echo{watch: func(stream testv1.EchoService_WatchServer) error {
		if err := stream.Send(&testv1.WatchResponse{}); err != nil {
			return err
		}
		return until(stream)
	}}
}

// watch begins a stream and reads its first message.
func watch(t *testing.T, bus *framework.Bus) testv1.EchoService_WatchClient {
	t.Helper()
	stream, err := testv1.NewEchoServiceClient(bus).Watch(t.Context(), &testv1.WatchRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestStreamsWithoutAnEndLearnOfTheShutdown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		until func(testv1.EchoService_WatchServer) error
		after time.Duration // at least
		code  codes.Code
	}{
		"by Draining": {
			until: func(stream testv1.EchoService_WatchServer) error {
				<-framework.Draining(stream.Context())
				return status.Error(codes.Aborted, "start again")
			},
			code: codes.Aborted,
		},
		"by the end of their context": {
			until: func(stream testv1.EchoService_WatchServer) error {
				<-stream.Context().Done()
				return stream.Context().Err()
			},
			after: 20 * time.Second,
			code:  codes.Unavailable,
		},
		"by the error of Send": {
			until: func(stream testv1.EchoService_WatchServer) error {
				for {
					time.Sleep(time.Millisecond)
					if err := stream.Send(&testv1.WatchResponse{}); err != nil {
						return err
					}
				}
			},
			after: 20 * time.Second,
			code:  codes.Unavailable,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				bus, running, _ := inMemory(t, endless(test.until))
				stream := watch(t, bus)
				ended := make(chan error, 1)
				go func() {
					for {
						if _, err := stream.Recv(); err != nil {
							ended <- err
							return
						}
					}
				}()
				took, err := stopTimed(running)
				if err != nil || took < test.after || took > test.after+soon {
					t.Errorf("Serve ended after %v with %v, want nil after some %v", took, err, test.after)
				}
				err = <-ended
				if outcome := framework.OutcomeOf(err); status.Code(err) != test.code || outcome != framework.Executed {
					t.Errorf("the stream ended with %v (%v), want %v, executed", err, outcome, test.code)
				}
			})
		})
	}
}

func TestAUnaryHandlerLearnsOfTheShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus, running, _ := inMemory(t, &echo{echo: func(ctx context.Context, _ string) (string, error) {
			<-framework.Draining(ctx)
			return "half done", nil
		}})
		call := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, framework.Timeout(time.Hour))
		synctest.Wait()
		if took, err := stopTimed(running); err != nil || took > soon {
			t.Errorf("Serve ended after %v with %v, want nil, soon", took, err)
		}
		if reply, err := call.Await(t.Context()); err != nil || reply.GetText() != "half done" {
			t.Errorf("the call = %v, %v", reply, err)
		}
	})
	if framework.Draining(t.Context()) != nil {
		t.Error("a context that is no handler's has a channel")
	}
}

// TestAHandlerThatPaysNoHeedHoldsUpNothing uses handlers that go on after their context
// has ended, also when grpc-go's server waits for them.
func TestAHandlerThatPaysNoHeedHoldsUpNothing(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]grpc.ServerOption{
		"by default":      nil,
		"WaitForHandlers": {grpc.WaitForHandlers(true)},
		// If as many handlers run as streams are allowed, grpc-go reads no more frames.
		"no more handlers may run": {grpc.MaxConcurrentStreams(2)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var log testlog.Log
				bus, running, _ := inMemory(t, &echo{echo: func(context.Context, string) (string, error) {
					<-release
					return "", nil
				}}, framework.ServerOptions(options...), framework.ShutdownTimeout(10*time.Second), framework.Logger(log.Logger()))
				call := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, framework.Timeout(time.Hour))
				synctest.Wait()
				took, err := stopTimed(running)
				if took > 10*time.Second {
					t.Errorf("Serve took %v of 10s to end", took)
				}
				for _, want := range []string{"were cut off: 1 of test.echo.echo", "ShutdownTimeout", "handlers run on although their context has ended: 1 of test.echo.echo"} {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("Serve = %v, want an error that says %q", err, want)
					}
				}
				if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "test.echo.echo") {
					t.Errorf("the log does not name the handler:\n%s", text)
				}
				close(release)
				if _, err := call.Await(t.Context()); status.Code(err) != codes.Unavailable {
					t.Errorf("the call = %v, want UNAVAILABLE", err)
				}
			})
		})
	}
}

// TestALateCallIsRefusedAsDraining begins a call over a connection after its
// GOAWAY, which the caller has not received.
func TestALateCallIsRefusedAsDraining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ran := make(chan string, 1)
		_, running, listener := inMemory(t, &echo{
			echo: func(ctx context.Context, _ string) (string, error) {
				<-ctx.Done() // keeps the service
				return "", ctx.Err()
			},
			soon: func(_ context.Context, text string) (string, error) {
				ran <- text
				return text, nil
			},
		})
		instance := discoverytest.Watch(t, running.registry, "test.echo").Until(t, "an instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 1 }).Instances[0]
		conn, err := listener.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		caller := newRaw(t, conn)
		caller.send(caller.begin(testv1.EchoService_Echo_FullMethodName), &testv1.EchoRequest{})
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- running.stop() }()
		caller.until(func(frame http2.Frame) bool { _, ok := frame.(*http2.GoAwayFrame); return ok })
		if snapshot := discoverytest.Watch(t, running.registry, "test.echo").Until(t, "anything", func(discovery.Snapshot) bool { return true }); len(snapshot.Instances) != 0 {
			t.Errorf("connections were told to go away before the registry was left: %v", snapshot.Instances)
		}
		late := caller.begin(testv1.EchoService_EchoSoon_FullMethodName, atmostonce.CallKey, atmostonce.Identity{
			Incarnation: instance.Incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1,
		}.Value())
		caller.send(late, &testv1.EchoSoonRequest{Text: "late"})
		trailers := caller.trailers(late)
		if !strings.Contains(trailers["grpc-message"], "draining") || trailers["grpc-status"] != "9" || trailers["onecall-outcome"] != "refused" {
			t.Errorf("the late call ended with %v, want DRAINING, refused", trailers)
		}
		_ = conn.Close()
		if err := <-stopped; err != nil {
			t.Errorf("Serve = %v", err)
		}
		select {
		case <-ran:
			t.Error("the late call ran")
		default:
		}
	})
}

func TestTheLogHasEachStepOfAShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Log
		_, running, _ := inMemory(t, &echo{}, framework.Logger(log.Logger()))
		if err := running.stop(); err != nil {
			t.Fatal(err)
		}
		text := log.String()
		for _, want := range []string{
			`level=INFO msg=serving address=10.0.0.1:443`,
			`level=INFO msg="shutting down: leaving the registry" address=10.0.0.1:443 shutdown_timeout=25s`,
			`level=INFO msg="the registry was left; finishing the calls under way" address=10.0.0.1:443 after=200ms calls=none`,
			`level=INFO msg=stopped address=10.0.0.1:443 after=`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("the log has no %q:\n%s", want, text)
			}
		}
		if strings.Contains(text, "<nil>") || strings.Contains(text, "level=WARN") {
			t.Errorf("the log of a good end:\n%s", text)
		}
	})
}

// goexit is a listener whose Accept ends its goroutine.
type goexit struct{ net.Listener }

func (goexit) Accept() (net.Conn, error) {
	runtime.Goexit()
	panic("not reached")
}

func TestAListenerThatEndsItsGoroutineEndsServe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, quiet,
			framework.Listener(goexit{bufconn.Listen(1)}), framework.AdvertiseAs("10.0.0.1:443"))
		if err == nil || !strings.Contains(err.Error(), "accepting connections") {
			t.Errorf("Serve = %v, want an error of accepting", err)
		}
	})
}
