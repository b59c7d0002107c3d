package framework_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// hole dials a listener. After swallow, all data of the existing connections is lost
// without an error, as behind a middlebox that has lost their state.
type hole struct {
	listener *bufconn.Listener
	epoch    atomic.Int64
	dials    atomic.Int64
}

func (h *hole) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := h.listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	h.dials.Add(1)
	return &holed{Conn: conn, hole: h, born: h.epoch.Load(), closed: make(chan struct{})}, nil
}

func (h *hole) swallow() { h.epoch.Add(1) }

type holed struct {
	net.Conn

	hole   *hole
	born   int64
	ended  atomic.Bool
	closed chan struct{}
}

func (c *holed) lost() bool { return c.hole.epoch.Load() != c.born }

func (c *holed) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	if c.lost() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *holed) Write(what []byte) (int, error) {
	if c.lost() {
		return len(what), nil
	}
	return c.Conn.Write(what)
}

func (c *holed) Close() error {
	if !c.ended.Swap(true) {
		close(c.closed)
	}
	return c.Conn.Close()
}

func TestASilentConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]bool{"with calls": true, "while nobody calls": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := &hole{listener: bufconn.Listen(1 << 20)}
				registry := memory.New()
				serve(t, registry, &echo{}, framework.Listener(h.listener), framework.AdvertiseAs("10.0.0.1:443"))
				bus := newBus(t, registry, framework.DialOptions(grpc.WithContextDialer(h.dial)))
				ready(t, bus, "test.echo")
				client := testv1.NewEchoServiceClient(bus)
				call := func() error {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_, err := client.Echo(ctx, &testv1.EchoRequest{})
					return err
				}
				if err := call(); err != nil {
					t.Fatal(err)
				}
				h.swallow()
				for start := time.Now(); time.Since(start) < 30*time.Second; {
					if busy {
						_ = call()
					}
					time.Sleep(time.Second)
				}
				if err := call(); err != nil {
					t.Errorf("30 s after its connection went silent a call = %v", err)
				}
				if dials := h.dials.Load(); dials != 2 {
					t.Errorf("there were %d connections, want one and its successor", dials)
				}
			})
		})
	}
}

// TestAPlainServerBearsWhatKeepsConnectionsAlive uses a server that allows a ping every 5
// minutes, grpc-go's default, and has no health service.
func TestAPlainServerBearsWhatKeepsConnectionsAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &hole{listener: bufconn.Listen(1 << 20)}
		server := grpc.NewServer()
		testv1.RegisterEchoServiceServer(server, &echo{})
		served := make(chan error, 1)
		go func() { served <- server.Serve(h.listener) }()
		t.Cleanup(func() {
			server.Stop()
			<-served
		})
		registry := memory.New()
		discoverytest.Register(t, registry, discovery.Instance{API: "test.echo", Address: "10.0.0.1:443"})
		bus := newBus(t, registry, framework.DialOptions(grpc.WithContextDialer(h.dial), grpc.WithIdleTimeout(0)))
		ready(t, bus, "test.echo")
		stream, err := testv1.NewEchoServiceClient(bus).Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		if err := stream.Send(&testv1.ChatRequest{Text: "still there"}); err != nil {
			t.Fatal(err)
		}
		if reply, err := stream.Recv(); err != nil || reply.GetText() != "still there" {
			t.Errorf("after two hours the stream = %v, %v", reply, err)
		}
		if dials := h.dials.Load(); dials != 1 {
			t.Errorf("there were %d connections, want one", dials)
		}
	})
}
