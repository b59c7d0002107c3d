package framework_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
)

// A bus reads the limit of a request from the program's options, and calls none
// of its interceptors for that.
func TestTheLimitOfARequestIsWhatTheProgramConfigured(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	counted := grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		asked.Add(1)
		return invoke(ctx, method, request, reply, conn, options...)
	})
	limited := framework.DialOptions(counted, grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<10)))
	newBus(t, memory.New(), limited)
	if asked.Load() > 0 {
		t.Errorf("NewBus called the program's interceptor %d times", asked.Load())
	}
	args := framework.Args{"username": strings.Repeat("a", 2<<10), "password": "x"}
	for name, test := range map[string]struct {
		options []framework.BusOption
		call    []any
		refused bool
	}{
		"as the bus is configured":     {[]framework.BusOption{limited}, nil, true},
		"more for one call":            {[]framework.BusOption{limited}, []any{grpc.MaxCallSendMsgSize(4 << 10)}, false},
		"less for one call":            {nil, []any{grpc.MaxCallSendMsgSize(1 << 10)}, true},
		"the default takes more bytes": {nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bus := newBus(t, memory.New(), test.options...)
			_, err := bus.Call(t.Context(), "test.kinds.sign_in", append([]any{args}, test.call...)...)
			refused := status.Code(err) == codes.InvalidArgument && strings.Contains(err.Error(), "MaxCallSendMsgSize")
			if refused != test.refused || framework.OutcomeOf(err) != framework.NotSent {
				t.Errorf("the call ended with %v (%v), want it refused for its size: %v", err, framework.OutcomeOf(err), test.refused)
			}
		})
	}
}
