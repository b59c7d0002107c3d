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

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// dialRaw begins to speak HTTP/2 with a service that is in memory.
func dialRaw(t *testing.T, listener *bufconn.Listener) (*raw, net.Conn) {
	t.Helper()
	conn, err := listener.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return newRaw(t, conn), conn
}

func TestAServerSaysWhatOneConnectionMayTake(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options          []grpc.ServerOption
		streams, headers uint32
	}{
		"by default":                    {streams: 1000, headers: 64 << 10},
		"the program's own options win": {options: []grpc.ServerOption{grpc.MaxConcurrentStreams(7), grpc.MaxHeaderListSize(9000)}, streams: 7, headers: 9000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, _, listener := inMemory(t, &echo{}, framework.ServerOptions(test.options...))
				client, _ := dialRaw(t, listener)
				settings := client.until(func(frame http2.Frame) bool { _, ok := frame.(*http2.SettingsFrame); return ok }).(*http2.SettingsFrame)
				streams, _ := settings.Value(http2.SettingMaxConcurrentStreams)
				headers, _ := settings.Value(http2.SettingMaxHeaderListSize)
				if streams != test.streams || headers != test.headers {
					t.Errorf("a connection may have %d streams with %d bytes of headers, want %d and %d", streams, headers, test.streams, test.headers)
				}
			})
		})
	}
}

// TestCallsThatAreResetStartNoMoreHandlersThanMayRun repeatedly begins calls and resets
// them at once, while their handlers go on ("rapid reset").
func TestCallsThatAreResetStartNoMoreHandlersThanMayRun(t *testing.T) {
	t.Parallel()
	const most, within = 10, time.Second
	release, began := make(chan struct{}), make(chan struct{}, 100)
	registry := memory.New()
	service := serve(t, registry, &echo{echo: func(context.Context, string) (string, error) {
		began <- struct{}{}
		<-release
		return "", nil
	}}, framework.ServerOptions(grpc.MaxConcurrentStreams(most)), framework.ShutdownTimeout(within))
	defer close(release)
	conn, err := net.Dial("tcp", serving(t, registry, 1)[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	client := newRaw(t, conn)
	for range cap(began) {
		stream := client.begin(testv1.EchoService_Echo_FullMethodName)
		client.send(stream, &testv1.EchoRequest{})
		client.check(client.framer.WriteRSTStream(stream, http2.ErrCodeCancel))
	}
	for range most {
		<-began
	}
	// grpc-go reads no more from such a connection. It must not delay the shutdown,
	// although grpc-go's own GracefulStop never returns then.
	if err := service.stop(); err == nil || !strings.Contains(err.Error(), "10 of test.echo.echo") {
		t.Errorf("Serve = %v, want an error that says how many handlers ran", err)
	}
	if len(began) != 0 {
		t.Errorf("%d handlers more than %d began", len(began), most)
	}
}

func TestACallWithTooMuchMetadataIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int64
		bus, _, listener := inMemory(t, &echo{soon: func(context.Context, string) (string, error) {
			ran.Add(1)
			return "", nil
		}})
		// A client that ignores the server's settings.
		client, _ := dialRaw(t, listener)
		wrote := client.tryBegin(testv1.EchoService_EchoSoon_FullMethodName, "large", strings.Repeat("x", 100<<10))
		for ended := wrote != nil; !ended; { // the call, or the connection
			frame, err := client.framer.ReadFrame()
			_, reset := frame.(*http2.RSTStreamFrame)
			ended = reset || err != nil
		}
		// grpc-go does not send such a call.
		ctx := metadata.AppendToOutgoingContext(t.Context(), "large", strings.Repeat("x", 100<<10))
		_, err := testv1.NewEchoServiceClient(bus).EchoSoon(ctx, &testv1.EchoSoonRequest{})
		if status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.NotSent {
			t.Errorf("a call with 100 KiB of metadata = %v (%v), want that it was not sent", err, framework.OutcomeOf(err))
		}
		if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil || ran.Load() != 1 {
			t.Errorf("a good call = %v; handlers ran %d times, want once", err, ran.Load())
		}
	})
}

// closedAfter waits until the server closes a connection and returns how long that
// took.
func closedAfter(conn net.Conn) time.Duration {
	begun := time.Now()
	for read := make([]byte, 1<<10); ; {
		if _, err := conn.Read(read); err != nil {
			return time.Since(begun)
		}
	}
}

func TestASilentClientIsDisconnected(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		speak func(client func() *raw)
		after time.Duration
	}{
		"it says nothing at all":      {speak: func(func() *raw) {}, after: 20 * time.Second},
		"it answers no ping":          {speak: func(client func() *raw) { client() }, after: 80 * time.Second},
		"it answers none in a stream": {speak: func(client func() *raw) { client().begin(testv1.EchoService_Chat_FullMethodName) }, after: 80 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, _, listener := inMemory(t, &echo{})
				conn, err := listener.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				test.speak(func() *raw { return newRaw(t, conn) })
				if took := closedAfter(conn); took < test.after || took > test.after+time.Second {
					t.Errorf("the server closed the connection after %v, want %v", took, test.after)
				}
			})
		})
	}
}

// TestAClientMayPingAsOftenAsGRPCGoDoes pings every 10 s for an hour, each
// second ping early, as if the one before it had waited in the network.
func TestAClientMayPingAsOftenAsGRPCGoDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, _, listener := inMemory(t, &echo{})
		client, conn := dialRaw(t, listener)
		gone := make(chan error, 1)
		go func() {
			for {
				frame, err := client.framer.ReadFrame()
				if _, away := frame.(*http2.GoAwayFrame); err != nil || away {
					gone <- err
					return
				}
			}
		}()
		for i := range 360 {
			time.Sleep(10*time.Second + time.Duration(i%2*2-1)*2*time.Second)
			select {
			case err := <-gone:
				t.Fatalf("after %d pings the server ended the connection: %v", i, err)
			default:
			}
			client.check(client.framer.WritePing(false, [8]byte{1}))
		}
		_ = conn.Close()
		<-gone
	})
}

// TestMoreCallsThanAConnectionTakesWait makes more calls at a time than one
// connection may have under way.
func TestMoreCallsThanAConnectionTakesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus, _, _ := inMemory(t, &echo{echo: func(context.Context, string) (string, error) {
			time.Sleep(100 * time.Millisecond)
			return "", nil
		}})
		var calls sync.WaitGroup
		for range 3000 {
			calls.Go(func() {
				if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	})
}

func TestTheHealthServiceKnowsBusNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, _, listener := inMemory(t, &echo{})
		health := grpc_health_v1.NewHealthClient(plainClient(t, listener))
		for _, name := range []string{"", "test.echo", "onecall.test.v1.EchoService", "onecall.test.v1.PlainService", framework.RegistrationHealth} {
			reply, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: name})
			if err != nil || reply.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Errorf("the health of %q = %v, %v", name, reply, err)
			}
		}
	})
}
