package wire_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/wire"
)

// target accepts connections, and sends the lines that it reads on them.
func target(t *testing.T) (address string, connections <-chan net.Conn, lines <-chan string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	accepted, read := make(chan net.Conn, 10), make(chan string, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
			go func() {
				for scanner := bufio.NewScanner(conn); scanner.Scan(); {
					read <- scanner.Text()
				}
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String(), accepted, read
}

// connect connects to a proxy.
func connect(t *testing.T, p *wire.Proxy) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func write(t *testing.T, to io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(to, text); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsHeldIsDeliveredAfterItsClientIsCut(t *testing.T) {
	t.Parallel()
	address, connections, lines := target(t)
	p := wire.Start(t)
	p.Forward(address)
	client := connect(t, p)
	write(t, client, "first\n")
	if got := eventually.Receive(t, "the first line", lines); got != "first" {
		t.Errorf("the target read %q", got)
	}
	eventually.Receive(t, "the connection", connections)
	p.HoldRequests()
	write(t, client, "late\n")
	eventually.True(t, "the line is held", func() bool {
		requests, _ := p.Held()
		return requests == len("late\n")
	})
	p.CutClients()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client reads %v, want a reset", err)
	}
	write(t, connect(t, p), "second\n") // other connections are not held
	if got := eventually.Receive(t, "the second line", lines); got != "second" {
		t.Errorf("the target read %q", got)
	}
	p.Deliver()
	if got := eventually.Receive(t, "the late line", lines); got != "late" {
		t.Errorf("the target read %q", got)
	}
	if got := p.Connections(); got != 2 {
		t.Errorf("%d connections were accepted, want 2", got)
	}
}

func TestAReplyThatIsHeldIsLostWhenTheConnectionIsCut(t *testing.T) {
	t.Parallel()
	address, connections, _ := target(t)
	p := wire.Start(t)
	p.Forward(address)
	client := connect(t, p)
	server := eventually.Receive(t, "the connection", connections)
	eventually.True(t, "the proxy has the connection", func() bool { return p.Connections() == 1 })
	p.HoldReplies()
	write(t, server, "reply\n")
	eventually.True(t, "the reply is held", func() bool {
		_, replies := p.Held()
		return replies == len("reply\n")
	})
	p.Cut()
	for end, conn := range map[string]net.Conn{"client": client, "target": server} {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("the %s reads on", end)
		}
	}
	p.Close()
	if _, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.Address()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a proxy that has ended = %v, want refused", err)
	}
}
