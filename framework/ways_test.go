package framework_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/onecall-dev/onecall/framework"
)

// way is a way that calls take from a bus to an instance.
type way struct {
	name string
	// bus has a bus take it.
	bus []framework.BusOption
	// carries begins the name of the type that carries a call to its handler, and network
	// is that of the caller's address.
	carries, network string
}

// ways are all ways. A test of the conformance suite runs over each of them, and the first
// says what the others must do. Any other test of the package runs over network. With flag
// -way, all tests run over the way that it names.
var ways = []way{
	{name: "tcp", bus: []framework.BusOption{framework.OverNetwork(), framework.NoSocket()}, carries: "*transport.", network: "tcp"},
	{name: network, bus: []framework.BusOption{framework.OverNetwork()}, carries: "*transport.", network: "unix"},
	{name: "process", carries: "*inprocess.", network: "unix"},
	{name: "process, beside TCP", bus: []framework.BusOption{framework.NoSocket()}, carries: "*inprocess.", network: "tcp"},
}

// network is the way of tests that do not say which: a socket if there is one, else TCP.
const network = "socket"

var wayFlag = flag.String("way", "", "the way that calls of tests take")

// each returns the ways that a test of the conformance suite runs over.
func each() []way {
	if *wayFlag == "" {
		return ways
	}
	return []way{chosen()}
}

// chosen returns the way that any other test runs over.
func chosen() way {
	name := cmp.Or(*wayFlag, network)
	for _, w := range ways {
		if w.name == name {
			return w
		}
	}
	panic("there is no way " + name)
}

// carrier returns the name of the type that carries the call of a handler.
func carrier(ctx context.Context) string {
	return fmt.Sprintf("%T", grpc.ServerTransportStreamFromContext(ctx))
}

// taken fails the test if the call of a handler does not take the way.
func (w way) taken(tb testing.TB, ctx context.Context) { //nolint:revive // the context is the handler's
	tb.Helper()
	if got := carrier(ctx); !strings.HasPrefix(got, w.carries) {
		tb.Errorf("the call came with a %s, want a %s", got, w.carries)
	}
	if from, ok := peer.FromContext(ctx); !ok || from.Addr.Network() != w.network {
		tb.Errorf("the call came from %v, want an address of %s", from, w.network)
	}
}

// overEach runs a test over each way, or over that of the flag.
func overEach(t *testing.T, test func(t *testing.T, w way)) {
	t.Helper()
	for _, w := range each() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			test(t, w)
		})
	}
}

// overNetwork skips a test that is about connections, unless calls go over them.
func overNetwork(tb testing.TB) {
	tb.Helper()
	if chosen().name != network {
		tb.Skip("is about connections")
	}
}
