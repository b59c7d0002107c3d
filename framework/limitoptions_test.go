package framework_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestALimitThatMakesNoSenseIsAnError(t *testing.T) {
	t.Parallel()
	for want, option := range map[string]any{
		"option MaxConnections: 0 and 1":                   framework.MaxConnections(0, 1),
		"option MaxConnections: 1 and 0":                   framework.MaxConnections(1, 0),
		"option MaxCallsPerConnection: 0":                  framework.MaxCallsPerConnection(0),
		"option MaxMetadataSize: 4095 bytes":               framework.MaxMetadataSize(4095),
		"option MaxMessageSize: 0 bytes":                   framework.MaxMessageSize(0),
		"option StreamWindow: 65535 bytes":                 framework.StreamWindow(65535),
		"option StreamWindow: 16777217 bytes":              framework.StreamWindow(16777217),
		"option StreamWindow: -1 bytes":                    framework.StreamWindow(-1),
		"option HandshakeTimeout: 0s":                      framework.HandshakeTimeout(0),
		"option Keepalive: a ping after 9s":                framework.Keepalive(9*time.Second, time.Second),
		"option Keepalive: a ping after 10s with":          framework.Keepalive(10*time.Second, 0),
		"option MaxConnectionAge: an age of 0s":            framework.MaxConnectionAge(0, 0),
		"option MaxConnectionAge: an age of 1s":            framework.MaxConnectionAge(time.Second, -1),
		"option ConnectBackoff: 0s":                        framework.ConnectBackoff(0, time.Second),
		"option ConnectBackoff: 2s and 1s":                 framework.ConnectBackoff(2*time.Second, time.Second),
		"the grace of 4s is less than the timeout of test": framework.MaxConnectionAge(time.Minute, 4*time.Second),
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			if option, ok := option.(framework.ServeOption); ok {
				err := startFails(t, option)
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Serve = %v, want %q", err, want)
				}
			}
			if option, ok := option.(framework.BusOption); ok {
				bus, err := framework.NewBus(memory.New(), quiet, option)
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("NewBus = %v, %v, want %q", bus, err, want)
				}
			}
		})
	}
}

// startFails starts a service, and returns its error. It stops a service that starts.
func startFails(t *testing.T, options ...framework.ServeOption) error {
	t.Helper()
	service, err := framework.Start(t.Context(), memory.New(), (&echo{}).register, append(options, quiet)...)
	if err != nil {
		return err
	}
	return service.Stop(t.Context())
}

func TestAMessageThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	const limit = 10_000
	for name, test := range map[string]struct {
		serve []framework.ServeOption
		call  []framework.BusOption
		size  int
		fails bool
		runs  int64
	}{
		"a request within the limit":  {serve: []framework.ServeOption{framework.MaxMessageSize(limit)}, size: limit / 2, runs: 1},
		"a request beyond it":         {serve: []framework.ServeOption{framework.MaxMessageSize(limit)}, size: 2 * limit, fails: true},
		"a request beyond 4 MiB":      {size: 5 << 20, fails: true},
		"a reply within the limit":    {call: []framework.BusOption{framework.MaxMessageSize(limit)}, size: limit / 2, runs: 1},
		"a reply beyond it":           {call: []framework.BusOption{framework.MaxMessageSize(limit)}, size: 20 * limit, fails: true, runs: 1},
		"the program's own option":    {serve: []framework.ServeOption{framework.MaxMessageSize(limit), framework.ServerOptions(grpc.MaxRecvMsgSize(3 * limit))}, size: 2 * limit, runs: 1},
		"the program's own at a call": {call: []framework.BusOption{framework.MaxMessageSize(limit), framework.DialOptions(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(3 * limit)))}, size: 2 * limit, runs: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ran atomic.Int64
			registry := memory.New()
			serve(t, registry, &echo{soon: func(_ context.Context, text string) (string, error) {
				ran.Add(1)
				return text, nil
			}}, test.serve...)
			bus := newBus(t, registry, test.call...)
			ready(t, bus, "test.echo")
			_, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: strings.Repeat("x", test.size)})
			if (err != nil) != test.fails || ran.Load() != test.runs {
				t.Errorf("the call = %v after %d runs, want an error: %v, after %d", err, ran.Load(), test.fails, test.runs)
			}
			if outcome := framework.OutcomeOf(err); test.runs > 0 && (outcome == framework.Refused || outcome == framework.NotSent) {
				t.Errorf("the outcome of a call that ran is %v", outcome)
			}
		})
	}
}

func TestOptionsSetWhatOneConnectionMayTake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, _, listener := inMemory(t, &echo{}, framework.MaxCallsPerConnection(7), framework.MaxMetadataSize(9000))
		client, _ := dialRaw(t, listener)
		settings := client.until(func(frame http2.Frame) bool { _, ok := frame.(*http2.SettingsFrame); return ok }).(*http2.SettingsFrame)
		streams, _ := settings.Value(http2.SettingMaxConcurrentStreams)
		headers, _ := settings.Value(http2.SettingMaxHeaderListSize)
		if streams != 7 || headers != 9000 {
			t.Errorf("a connection may have %d streams with %d bytes of headers, want 7 and 9000", streams, headers)
		}
	})
}

// TestASlowClientIsDisconnected uses clients that send a byte every second: of the preface,
// and of the headers of a call.
func TestASlowClientIsDisconnected(t *testing.T) {
	t.Parallel()
	trickle := func(conn net.Conn, bytes string) {
		for i := range len(bytes) {
			if _, err := conn.Write([]byte{bytes[i]}); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}
	headers := "\x00\x40\x00\x01\x04\x00\x00\x00\x01" + strings.Repeat("x", 1000) // the beginning of 16 KiB
	for name, test := range map[string]struct {
		options []framework.ServeOption
		speak   func(conn net.Conn)
		after   time.Duration
	}{
		"a slow preface":                  {speak: func(conn net.Conn) { trickle(conn, http2.ClientPreface[:23]+strings.Repeat(" ", 100)) }, after: 20 * time.Second},
		"a slow preface, with a limit":    {options: []framework.ServeOption{framework.HandshakeTimeout(5 * time.Second)}, speak: func(conn net.Conn) { trickle(conn, http2.ClientPreface) }, after: 5 * time.Second},
		"slow headers":                    {speak: func(conn net.Conn) { newRaw(t, conn); trickle(conn, headers) }, after: 80 * time.Second},
		"slow headers, with a limit":      {options: []framework.ServeOption{framework.Keepalive(15*time.Second, 3*time.Second)}, speak: func(conn net.Conn) { newRaw(t, conn); trickle(conn, headers) }, after: 18 * time.Second},
		"silence, with a limit":           {options: []framework.ServeOption{framework.HandshakeTimeout(time.Second)}, speak: func(net.Conn) {}, after: time.Second},
		"answers no ping, with a limit":   {options: []framework.ServeOption{framework.Keepalive(10*time.Second, time.Second)}, speak: func(conn net.Conn) { newRaw(t, conn) }, after: 11 * time.Second},
		"the program's own option counts": {options: []framework.ServeOption{framework.HandshakeTimeout(time.Second), framework.ServerOptions(grpc.ConnectionTimeout(2 * time.Second))}, speak: func(net.Conn) {}, after: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, _, listener := inMemory(t, &echo{}, test.options...)
				conn, err := listener.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				go test.speak(conn)
				if took := closedAfter(conn); took < test.after || took > test.after+time.Second {
					t.Errorf("the server closed the connection after %v, want %v", took, test.after)
				}
				synctest.Wait() // until speak has ended
				time.Sleep(time.Minute)
			})
		})
	}
}

// hosts is a listener in memory whose peers have addresses.
type hosts struct {
	*bufconn.Listener

	next chan string
}

// Accept implements [net.Listener].
func (h *hosts) Accept() (net.Conn, error) {
	conn, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hostConn{Conn: conn, host: <-h.next}, nil
}

// dial connects from a host. It returns whether the server answers, and the connection.
func (h *hosts) dial(t *testing.T, host string) (net.Conn, bool) {
	t.Helper()
	h.next <- host
	conn, err := h.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.ReadFull(conn, make([]byte, 9)) // the header of the server's settings
	return conn, err == nil
}

type hostConn struct {
	net.Conn

	host string
}

// RemoteAddr implements [net.Conn].
func (c *hostConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.host), Port: 4711} }

func TestConnectionsAboveALimitAreClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Log
		listener := &hosts{Listener: bufconn.Listen(1 << 20), next: make(chan string, 1)}
		service, err := framework.Start(t.Context(), memory.New(), (&echo{}).register, framework.Logger(log.Logger()),
			framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"), framework.MaxConnections(5, 2))
		if err != nil {
			t.Fatal(err)
		}
		var open []net.Conn
		for _, step := range []struct {
			host string
			want bool
		}{
			{"10.0.0.1", true},
			{"10.0.0.1", true},
			{"10.0.0.1", false}, // the third of this host
			{"::ffff:10.0.0.1", false},
			{"2001:db8::1", true},
			{"2001:db8::2", true},
			{"2001:db8::3", false}, // of the same network
			{"2001:db8:0:1::1", true},
			{"10.0.0.2", false}, // the sixth of all
		} {
			conn, answered := listener.dial(t, step.host)
			if answered != step.want {
				t.Errorf("a connection of %s was answered: %v, want %v", step.host, answered, step.want)
			}
			if answered {
				open = append(open, conn)
			}
		}
		if stats := service.Stats(); stats.Connections != 5 || stats.RefusedConnections != 4 {
			t.Errorf("the service has %d connections and refused %d, want 5 and 4", stats.Connections, stats.RefusedConnections)
		}
		_ = open[0].Close()
		synctest.Wait()
		if _, answered := listener.dial(t, "10.0.0.1"); !answered {
			t.Error("a connection was refused after another one had ended")
		}
		for _, want := range []string{"the service has as many connections as it may", "a host has as many connections as it may"} {
			if got := strings.Count(log.String(), want); got != 1 {
				t.Errorf("the log says %d times %q, want once", got, want)
			}
		}
		for _, conn := range open {
			_ = conn.Close()
		}
		if err := service.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestACallGoesToAnInstanceThatStillTakesConnections has an instance whose only connection
// is taken.
func TestACallGoesToAnInstanceThatStillTakesConnections(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{}, framework.MaxConnections(1, 1))
	taken, err := net.Dial("tcp", serving(t, registry, 1)[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	newRaw(t, taken).until(func(frame http2.Frame) bool { _, ok := frame.(*http2.SettingsFrame); return ok })
	serve(t, registry, &echo{})
	serving(t, registry, 2)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	for range 100 {
		if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoCallFailsWhileConnectionsAge has connections end each second, for a minute, with
// calls of half a second and a stream that goes on.
func TestNoCallFailsWhileConnectionsAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const callers, length = 8, time.Minute
		bus, _, listener := inMemory(t, &echo{echo: func(_ context.Context, text string) (string, error) {
			time.Sleep(500 * time.Millisecond)
			return text, nil
		}, watch: func(stream testv1.EchoService_WatchServer) error {
			for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Second) {
				if err := stream.Send(&testv1.WatchResponse{}); err != nil {
					return err
				}
			}
			return nil
		}}, framework.MaxConnectionAge(time.Second, 0))
		plain := testv1.NewEchoServiceClient(plainClient(t, listener))
		clients := map[string]testv1.EchoServiceClient{"a bus": testv1.NewEchoServiceClient(bus), "a plain client": plain}
		var calls sync.WaitGroup
		var good atomic.Int64
		end := time.Now().Add(length)
		for name, client := range clients {
			for i := range callers {
				calls.Go(func() {
					time.Sleep(time.Duration(i) * 61 * time.Millisecond)
					for time.Now().Before(end) {
						if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}, grpc.WaitForReady(true)); err != nil {
							t.Errorf("a call of %s = %v (%v)", name, err, framework.OutcomeOf(err))
						}
						good.Add(1)
					}
				})
			}
			calls.Go(func() {
				stream, err := client.Watch(t.Context(), &testv1.WatchRequest{})
				for err == nil {
					_, err = stream.Recv()
				}
				if err != io.EOF {
					t.Errorf("the stream of %s ended with %v", name, err)
				}
			})
		}
		calls.Wait()
		if want := int64(2 * callers * 100); good.Load() < want {
			t.Errorf("%d calls were made, want %d at least", good.Load(), want)
		}
	})
}

// TestCallsGoOnAfterTenIdleMinutes waits between calls of a bus and a plain client that
// pings as often as grpc-go does.
func TestCallsGoOnAfterTenIdleMinutes(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]framework.BusOption{
		"by default":                 nil,
		"pings as often as possible": {framework.Keepalive(10*time.Second, time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				listener := bufconn.Listen(1 << 20)
				registry := memory.New()
				var log testlog.Log
				service, err := framework.Start(t.Context(), registry, (&echo{}).register, framework.Logger(log.Logger()), framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"))
				if err != nil {
					t.Fatal(err)
				}
				var dialed atomic.Int64
				bus := newBus(t, registry, append(options, framework.DialOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					dialed.Add(1)
					return listener.DialContext(ctx)
				})))...)
				for range 5 {
					if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
						t.Error(err)
					}
					time.Sleep(10 * time.Minute)
				}
				if dialed.Load() != 1 {
					t.Errorf("%d connections were made, want one: the server ended the others", dialed.Load())
				}
				if err := service.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestABusWaitsBeforeItConnectsAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options       []framework.BusOption
		least, atMost int
	}{
		"by default":     {least: 7, atMost: 13},
		"with an option": {options: []framework.BusOption{framework.ConnectBackoff(time.Second, time.Second)}, least: 240, atMost: 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				registry := memory.New()
				listener := bufconn.Listen(1)
				serve(t, registry, &echo{}, framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"))
				var dialed atomic.Int64
				bus := newBus(t, registry, append(test.options, framework.DialOptions(grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
					dialed.Add(1)
					return nil, io.ErrUnexpectedEOF
				})))...)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				if err := bus.Ready(ctx, "test.echo"); err == nil {
					t.Error("the bus is ready")
				}
				if got := int(dialed.Load()); got < test.least || got > test.atMost {
					t.Errorf("the bus connected %d times in 5 minutes, want %d to %d", got, test.least, test.atMost)
				}
			})
		})
	}
}

func TestABusEndsAHandshakeThatTakesTooLong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options []framework.BusOption
		after   time.Duration
	}{
		"by default":     {after: 20 * time.Second},
		"with an option": {options: []framework.BusOption{framework.HandshakeTimeout(3 * time.Second)}, after: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				registry := memory.New()
				listener := bufconn.Listen(1)
				serve(t, registry, &echo{}, framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"))
				silent := make(chan net.Conn, 100)
				bus := newBus(t, registry, append(test.options, framework.DialOptions(grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
					here, there := net.Pipe() // whose other end says nothing
					silent <- there
					return here, nil
				})))...)
				go func() { _, _ = testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}) }()
				if took := closedAfter(<-silent); took < test.after || took > test.after+time.Second {
					t.Errorf("the bus closed the connection after %v, want %v", took, test.after)
				}
			})
		})
	}
}

// TestAMessageOfAHostileClientIsRefused sends what grpc-go's clients never send, and then a
// good call.
func TestAMessageOfAHostileClientIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		headers []string
		data    string
		code    string
	}{
		"a length of 4 GB":                     {data: "\x00\xff\xff\xff\xff", code: "8"},
		"a length beyond the limit":            {data: "\x00\x00\x40\x00\x01", code: "8"},
		"a compression that does not exist":    {headers: []string{"grpc-encoding", "xyz"}, data: "\x01\x00\x00\x00\x01x", code: "12"},
		"compressed without an encoding":       {data: "\x01\x00\x00\x00\x01x", code: "13"},
		"a flag that does not exist":           {data: "\x02\x00\x00\x00\x01x", code: "13"},
		"bytes that are no message":            {data: "\x00\x00\x00\x00\x03\xff\xff\xff", code: "13"},
		"a length that is longer than what is": {data: "\x00\x00\x00\x00\x09x", code: "13"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var ran atomic.Int64
				bus, _, listener := inMemory(t, &echo{soon: func(context.Context, string) (string, error) {
					ran.Add(1)
					return "", nil
				}})
				client, _ := dialRaw(t, listener)
				stream := client.begin(testv1.EchoService_EchoSoon_FullMethodName, test.headers...)
				client.check(client.framer.WriteData(stream, true, []byte(test.data)))
				if trailers := client.trailers(stream); trailers["grpc-status"] != test.code || ran.Load() != 0 {
					t.Errorf("the call ended with %v after %d runs, want the code %s and none", trailers, ran.Load(), test.code)
				}
				if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil || ran.Load() != 1 {
					t.Errorf("a good call = %v after %d runs", err, ran.Load())
				}
			})
		})
	}
}

// TestAPathThatIsNoMethodIsUnimplemented uses paths that are almost those of a method.
func TestAPathThatIsNoMethodIsUnimplemented(t *testing.T) {
	t.Parallel()
	const method = testv1.EchoService_EchoSoon_FullMethodName
	for _, path := range []string{
		strings.TrimPrefix(method, "/"), "/" + method, method + "/", strings.ToLower(method), strings.Replace(method, "/EchoSoon", "//EchoSoon", 1),
		method + "?", strings.Replace(method, "EchoService", "echoService", 1), "/", "", "/onecall.test.v1.EchoService/", "/onecall.test.v1.EchoService", "*",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var ran atomic.Int64
				_, _, listener := inMemory(t, &echo{soon: func(context.Context, string) (string, error) {
					ran.Add(1)
					return "", nil
				}})
				client, _ := dialRaw(t, listener)
				stream := client.begin(path)
				client.send(stream, &testv1.EchoSoonRequest{})
				refused := false
				for !refused {
					frame, err := client.framer.ReadFrame()
					if err != nil {
						t.Fatalf("the connection ended: %v", err)
					}
					switch frame := frame.(type) {
					case *http2.MetaHeadersFrame:
						for _, field := range frame.Fields {
							if field.Name == "grpc-status" {
								refused = field.Value == "12"
							}
						}
						if frame.StreamEnded() && !refused {
							t.Fatalf("the call ended with %v", frame.Fields)
						}
					case *http2.RSTStreamFrame:
						refused = true
					}
				}
				if ran.Load() != 0 {
					t.Error("the handler ran")
				}
			})
		})
	}
}
