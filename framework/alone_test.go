package framework_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/fixedport"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// serveEnv is the environment variable with the endpoint of an etcd. If it is set, the
// test's program does not test: it serves the test APIs on that etcd until it is killed.
const serveEnv = "ONECALL_TEST_SERVE_ON"

// listenEnv is the address that it listens on, any when empty.
const listenEnv = "ONECALL_TEST_LISTEN_ON"

// serveAlone runs in a process of its own.
func serveAlone(endpoint string) int {
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{endpoint}, TTL: 2 * time.Second})
	if err == nil {
		err = framework.Serve(context.Background(), registry, (&echo{}).register, quiet, framework.ListenOn(cmp.Or(os.Getenv(listenEnv), "127.0.0.1:0")))
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// startAlone starts a process that serves, until the test ends.
func startAlone(tb testing.TB, endpoint, address string) *os.Process {
	tb.Helper()
	command := exec.CommandContext(context.Background(), os.Args[0])
	command.Env = append(os.Environ(), serveEnv+"="+endpoint, listenEnv+"="+address)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return command.Process
}

// TestAnInstanceThatCrashesIsReplacedAtItsAddress kills an instance, whose entry
// stays until its lease ends, and starts another at its address meanwhile.
func TestAnInstanceThatCrashesIsReplacedAtItsAddress(t *testing.T) {
	t.Parallel()
	server := startEtcd(t, embed.Config{})
	registry := openEtcd(t, server.Endpoints()...)
	watched := discoverytest.Watch(t, registry, "test.echo")
	one := func(not discovery.Incarnation) discovery.Instance {
		return watched.Until(t, "another instance", func(s discovery.Snapshot) bool {
			return len(s.Instances) == 1 && s.Instances[0].Incarnation != not
		}).Instances[0]
	}
	address := fixedport.Address(t)
	crashing := startAlone(t, server.Endpoints()[0], address)
	first := one(discovery.Incarnation{})
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	for range 3 {
		if err := crashing.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := crashing.Wait(); err != nil { // before that its port is in use
			t.Fatal(err)
		}
		crashing = startAlone(t, server.Endpoints()[0], address)
		second := one(first.Incarnation)
		if second.Address != address {
			t.Fatalf("the next instance is at %s, not at %s", second.Address, address)
		}
		ready(t, bus, "test.echo") // its own watch may be later than the test's
		for i := range 50 {        // no call is bound to the old instance: it would be refused
			if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
				t.Errorf("call %d of the next instance = %v", i, err)
			}
		}
		first = second
	}
	if err := crashing.Kill(); err != nil {
		t.Fatal(err)
	}
	watched.Until(t, "no instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 0 })
}
