package server

import (
	"fmt"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/internal/contract"
)

// DefaultInFlight is how many calls of an API may be under way without option
// MaxInFlight.
const DefaultInFlight = 10_000

// errShed is the error of a call above the limit of its API. The call was admitted and its
// handler does not start, so its outcome is Refused, and a bus retries it.
var errShed = status.Error(codes.ResourceExhausted, "the instance has as many calls of the API under way as it may: retry the call at another instance, or later")

// inFlight limits the calls of an API that are under way: unary calls whose request was
// received, and streams. Its methods are safe for all goroutines.
type inFlight struct {
	most    int64
	running atomic.Int64
	shed    atomic.Uint64
}

// begin counts a call until end. It returns false if there are too many.
func (l *inFlight) begin() bool {
	if l == nil {
		return true
	}
	for {
		running := l.running.Load()
		if running >= l.most {
			l.shed.Add(1)
			return false
		}
		if l.running.CompareAndSwap(running, running+1) {
			return true
		}
	}
}

// end counts the end of a call for which begin returned true.
func (l *inFlight) end() {
	if l != nil {
		l.running.Add(-1)
	}
}

// limitCalls sets the limit of each API. limits are those of the option, by the API's name;
// "" is for all others.
func (u *underWay) limitCalls(apis []*contract.API, limits map[string]int) error {
	known := names(apis)
	for name := range limits {
		if name != "" && !slices.Contains(known, name) {
			return fmt.Errorf("option MaxInFlight: the service has no API of the name %q: its APIs are %q", name, known)
		}
	}
	for _, api := range apis {
		most, ok := limits[api.Name]
		if !ok {
			if most, ok = limits[""]; !ok {
				most = DefaultInFlight
			}
		}
		limit := &inFlight{most: int64(most)}
		u.limits[api.Name] = limit
		for _, rpc := range api.RPCs {
			u.limitOf[rpc.Method] = limit
		}
	}
	return nil
}

// limitStream is the place of limits for streams. For unary calls it is [chain.serveUnary].
func (c *chain) limitStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	limit := c.calls.limitOf[info.FullMethod]
	if !limit.begin() {
		return errShed
	}
	defer limit.end()
	return handler(srv, stream)
}
