package etcdclient_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// proxyEnv says to a process of this test that its environment names a proxy;
// grpc-go reads that once a process.
const proxyEnv = "ONECALL_TEST_ETCD_PROXY"

// accepts listens on loopback, and closes accepted at the first connection.
func accepts(t *testing.T) (address net.Addr, accepted <-chan struct{}) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	done := make(chan struct{})
	go func() {
		if conn, err := listener.Accept(); err == nil {
			close(done)
			_ = conn.Close()
		}
	}()
	return listener.Addr(), done
}

func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) { //nolint:paralleltest // the process that runs its body has nothing else to do
	if os.Getenv(proxyEnv) == "" {
		proxy, asked := accepts(t)
		address := "http://" + proxy.String()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAProxyOfTheEnvironmentIsNotUsed$")
		cmd.Env = append(os.Environ(), proxyEnv+"=1", "HTTPS_PROXY="+address, "https_proxy="+address, "NO_PROXY=", "no_proxy=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		select {
		case <-asked:
			t.Error("the proxy was asked")
		default:
		}
		return
	}
	member, asked := accepts(t)
	_, port, err := net.SplitHostPort(member.String())
	if err != nil {
		t.Fatal(err)
	}
	// Only the name in small letters is never looked up at a proxy.
	config, wrong := etcdclient.Config{Endpoints: []string{"http://LOCALHOST:" + port}}.WithDefaults()
	if wrong != nil {
		t.Fatal(wrong)
	}
	life, end := context.WithCancel(t.Context())
	conn := etcdclient.New(life, config)
	defer func() {
		end()
		conn.Close()
	}()
	if client, err := conn.Ready(t.Context()); err == nil { // the member says nothing
		t.Errorf("Ready = %v, want an error", client)
	}
	select {
	case <-asked: // before it closed the connection, which is the error
	default:
		t.Error("the member was not asked")
	}
}
