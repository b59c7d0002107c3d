package framework_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// tapped is a listener that keeps what its connections read and write.
type tapped struct {
	net.Listener

	mu    sync.Mutex // guards conns
	conns []*tappedConn
}

// tap listens on a port of this machine.
func tap(t *testing.T) *tapped {
	t.Helper()
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &tapped{Listener: tcp}
}

// Accept implements [net.Listener].
func (l *tapped) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	made := &tappedConn{Conn: conn}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, made)
	return made, nil
}

type tappedConn struct {
	net.Conn

	mu            sync.Mutex // guards the fields below
	read, written bytes.Buffer
}

// Read implements [net.Conn].
func (c *tappedConn) Read(data []byte) (int, error) {
	count, err := c.Conn.Read(data)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read.Write(data[:count])
	return count, err
}

// Write implements [net.Conn].
func (c *tappedConn) Write(data []byte) (int, error) {
	c.mu.Lock()
	c.written.Write(data)
	c.mu.Unlock()
	return c.Conn.Write(data)
}

// end is what one end of connections has sent.
type end struct {
	pings int
	// windows are those of streams that the end announced, in bytes.
	windows []uint32
}

// ends returns what the clients and the server have sent.
func (l *tapped) ends(t *testing.T) (clients, server end) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.mu.Lock()
		read, written := bytes.Clone(conn.read.Bytes()), bytes.Clone(conn.written.Bytes())
		conn.mu.Unlock()
		clients.add(t, bytes.TrimPrefix(read, []byte(http2.ClientPreface)))
		server.add(t, written)
	}
	return clients, server
}

// add reads the frames of a connection.
func (e *end) add(t *testing.T, sent []byte) {
	t.Helper()
	framer := http2.NewFramer(io.Discard, bytes.NewReader(sent))
	for {
		frame, err := framer.ReadFrame()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // the rest is under way
			return
		case err != nil:
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.PingFrame:
			if !frame.IsAck() {
				e.pings++
			}
		case *http2.SettingsFrame:
			if size, ok := frame.Value(http2.SettingInitialWindowSize); ok {
				e.windows = append(e.windows, size)
			}
		}
	}
}

// TestAWindowThatDoesNotChangeNeedsNoPings makes calls one after the other, for which
// grpc-go by itself sends a ping in each direction.
func TestAWindowThatDoesNotChangeNeedsNoPings(t *testing.T) {
	t.Parallel()
	const calls = 20
	for name, test := range map[string]struct {
		options []framework.Option
		window  uint32 // 0: that of HTTP/2, and pings
	}{
		"by default":        {window: 4 << 20},
		"of a size":         {options: []framework.Option{framework.StreamWindow(100_000)}, window: 100_000},
		"measured":          {options: []framework.Option{framework.StreamWindow(0)}},
		"the last one wins": {options: []framework.Option{framework.StreamWindow(0), framework.StreamWindow(200_000)}, window: 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, registry := tap(t), memory.New()
			serving, calling := []framework.ServeOption{framework.Listener(listener)}, []framework.BusOption{}
			for _, option := range test.options {
				serving, calling = append(serving, option), append(calling, option)
			}
			serve(t, registry, &echo{}, serving...)
			bus := newBus(t, registry, calling...)
			ready(t, bus, "test.echo")
			client := testv1.NewEchoServiceClient(bus)
			for range calls {
				if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: "hello"}); err != nil {
					t.Fatal(err)
				}
			}
			clients, server := listener.ends(t)
			for side, sent := range map[string]end{"bus": clients, "service": server} {
				if len(sent.windows) != 1 && test.window > 0 || len(sent.windows) > 0 && sent.windows[0] != test.window {
					t.Errorf("the %s announces windows of %d bytes, want %d", side, sent.windows, test.window)
				}
				if sent.pings > 0 != (test.window == 0) {
					t.Errorf("the %s sent %d pings during %d calls", side, sent.pings, calls)
				}
			}
		})
	}
}

// TestTheProgramsOwnWindowsCount sets windows with options of grpc-go.
func TestTheProgramsOwnWindowsCount(t *testing.T) {
	t.Parallel()
	const window = 300_000
	listener, registry := tap(t), memory.New()
	serve(t, registry, &echo{}, framework.Listener(listener), framework.ServerOptions(grpc.InitialWindowSize(window)))
	bus := newBus(t, registry, framework.DialOptions(grpc.WithInitialWindowSize(window)))
	ready(t, bus, "test.echo")
	clients, server := listener.ends(t)
	for side, sent := range map[string]end{"bus": clients, "service": server} {
		if len(sent.windows) == 0 || sent.windows[0] != window {
			t.Errorf("the %s announces windows of %d bytes, want %d", side, sent.windows, window)
		}
	}
}
