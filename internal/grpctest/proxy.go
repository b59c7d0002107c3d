package grpctest

import (
	"net"
	"os"
	"os/exec"
	"testing"
)

// proxyEnv is set in a process whose environment names a proxy.
const proxyEnv = "ONECALL_TEST_PROXY"

// UnderProxy runs body in a child process whose environment names an HTTP proxy, and fails
// the test if anything connects to that proxy. The test must do nothing else. A child
// process is needed because Go reads the proxy from the environment only once.
func UnderProxy(t *testing.T, body func()) {
	t.Helper()
	if os.Getenv(proxyEnv) != "" {
		body()
		return
	}
	proxy, connected := Accepts(t)
	address := "http://" + proxy.String()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$") //nolint:gosec // it is this program, G204
	cmd.Env = append(os.Environ(), proxyEnv+"=1", "HTTPS_PROXY="+address, "https_proxy="+address, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	select {
	case <-connected:
		t.Error("the proxy was connected to")
	default:
	}
}

// Accepts listens on loopback until the test ends, closes the first connection, and
// closes accepted before that.
func Accepts(tb testing.TB) (address net.Addr, accepted <-chan struct{}) {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = listener.Close() })
	done := make(chan struct{})
	go func() {
		if conn, err := listener.Accept(); err == nil {
			close(done)
			_ = conn.Close()
		}
	}()
	return listener.Addr(), done
}
