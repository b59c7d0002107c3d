package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/internal/contract"
)

// errShuttingDown is the cause of the context of a stream that [Serve] ends.
var errShuttingDown = errors.New("onecall: the instance shuts down")

// errStreamEnded is the error that the caller of such a stream receives.
var errStreamEnded = status.Error(codes.Unavailable, "the instance shuts down and ended the stream: start it again, and it goes to another instance")

// underWay counts the calls of a server whose handlers run: the calls whose request
// was received. It separates streams of gRPC's own services (health, reflection),
// because no shutdown waits for them.
type underWay struct {
	// names are bus names, unary and streaming the counters of RPCs, by gRPC's path.
	// These maps do not change while the server runs.
	names            map[string]string
	unary, streaming map[string]*rpcCalls
	// limits are by the names of APIs, and limitOf those of RPCs, by gRPC's path.
	limits, limitOf map[string]*inFlight

	// mu guards the fields below. No other lock is taken while it is held.
	mu      sync.Mutex
	streams map[*endableStream]struct{}
	// infrastructureEnded says that streams of gRPC's own services must end, and
	// allEnded that all streams must end. Both apply to later streams too.
	infrastructureEnded, allEnded bool
}

// rpcCalls counts the calls of one RPC: a call when its request is received, a
// stream when its handler starts.
type rpcCalls struct {
	name  string
	limit *inFlight // of its API, nil without one
	// Every call is counted in begun, then in failed if it ends with an error, and
	// then in ended.
	begun, ended, failed atomic.Uint64
}

// begin counts a call until [rpcCalls.end].
func (c *rpcCalls) begin() { c.begun.Add(1) }

// end counts the end of a call: its handler has returned, panicked or ended its
// goroutine.
func (c *rpcCalls) end(failed bool) {
	if failed {
		c.failed.Add(1)
	}
	c.ended.Add(1)
}

// running returns the number of running calls. It can be too high while calls begin
// and end, never too low.
func (c *rpcCalls) running() int64 {
	ended := c.ended.Load()              // before begun: a call must not be missing
	return int64(c.begun.Load() - ended) //nolint:gosec // as many as there are goroutines
}

func newUnderWay(apis []*contract.API) *underWay {
	u := &underWay{
		names: make(map[string]string), unary: make(map[string]*rpcCalls), streaming: make(map[string]*rpcCalls),
		limits: make(map[string]*inFlight), limitOf: make(map[string]*inFlight),
		streams: make(map[*endableStream]struct{}),
	}
	for _, api := range apis {
		for _, rpc := range api.RPCs {
			u.names[rpc.Method] = rpc.Name
		}
	}
	return u
}

// add adds counters for the RPCs of an API. The name of an RPC without a contract is
// its path.
func (u *underWay) add(desc *grpc.ServiceDesc) {
	counters := func(name string) (string, *rpcCalls) {
		path := "/" + desc.ServiceName + "/" + name
		return path, &rpcCalls{name: u.name(path), limit: u.limitOf[path]}
	}
	for _, method := range desc.Methods {
		path, calls := counters(method.MethodName)
		u.unary[path] = calls
	}
	for _, stream := range desc.Streams {
		path, calls := counters(stream.StreamName)
		u.streaming[path] = calls
	}
}

// knows reports whether a path is that of a method.
func (u *underWay) knows(path string) bool { return u.unary[path] != nil || u.streaming[path] != nil }

// name returns the bus name of an RPC, or its path if it has none.
func (u *underWay) name(path string) string { return cmp.Or(u.names[path], path) }

// beginStream adds a stream and returns it with a context that can be ended. The
// caller must call [underWay.endStream].
func (u *underWay) beginStream(stream grpc.ServerStream, path string) *endableStream {
	service, _, _ := contract.SplitMethod(path)
	ctx, cancel := context.WithCancelCause(stream.Context())
	running := &endableStream{ServerStream: stream, ctx: ctx, cancel: cancel, path: path, infrastructure: contract.IsBuiltin(service)}
	if _, last := stream.(lastStream); last {
		return running
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.streams[running] = struct{}{}
	if u.allEnded || running.infrastructure && u.infrastructureEnded {
		running.end()
	}
	return running
}

// endStream removes a stream: its handler has returned, panicked or ended its
// goroutine.
func (u *underWay) endStream(stream *endableStream) {
	u.mu.Lock()
	delete(u.streams, stream)
	u.mu.Unlock()
	stream.cancel(nil)
}

// endInfrastructure ends the contexts of streams of gRPC's own services.
func (u *underWay) endInfrastructure() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.infrastructureEnded = true
	for stream := range u.streams {
		if stream.infrastructure {
			stream.end()
		}
	}
}

// endStreams ends the contexts of all streams.
func (u *underWay) endStreams() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.infrastructureEnded, u.allEnded = true, true
	for stream := range u.streams {
		stream.end()
	}
}

// counts are the numbers of running calls, by the name of the RPC.
type counts map[string]int64

// unaryCounts returns the unary calls whose handlers run.
func (u *underWay) unaryCounts() counts {
	running := make(counts)
	for _, calls := range u.unary {
		if n := calls.running(); n > 0 {
			running[calls.name] += n
		}
	}
	return running
}

// streamCounts returns the streams of APIs whose handlers run.
func (u *underWay) streamCounts() counts {
	u.mu.Lock()
	defer u.mu.Unlock()
	running := make(counts)
	for stream := range u.streams {
		if !stream.infrastructure {
			name := "unknown methods"
			if calls := u.streaming[stream.path]; calls != nil {
				name = calls.name
			}
			running[name]++
		}
	}
	return running
}

// all returns the unary calls and the streams whose handlers run.
func (u *underWay) all() counts {
	running := u.unaryCounts()
	for name, n := range u.streamCounts() {
		running[name] += n
	}
	return running
}

// maxNamed is how many RPCs [counts.String] names at most.
const maxNamed = 10

// String returns the counts as text, such as "2 of auth.get_user, 1 of auth.watch",
// the largest first.
func (c counts) String() string {
	if len(c) == 0 {
		return "none"
	}
	names := slices.SortedFunc(maps.Keys(c), func(a, b string) int {
		if c[a] != c[b] {
			return int(c[b] - c[a])
		}
		return cmp.Compare(a, b)
	})
	var words []string
	for i, name := range names {
		if i == maxNamed {
			words = append(words, fmt.Sprintf("%d other RPCs", len(names)-maxNamed))
			break
		}
		words = append(words, fmt.Sprintf("%d of %s", c[name], name))
	}
	return strings.Join(words, ", ")
}

// endableStream is a stream whose context Serve can end.
type endableStream struct {
	grpc.ServerStream

	ctx            context.Context //nolint:containedctx // the stream's own, which Context returns
	cancel         context.CancelCauseFunc
	path           string
	infrastructure bool
	ended          atomic.Bool
}

// Context implements [grpc.ServerStream].
func (s *endableStream) Context() context.Context { return s.ctx }

// end ends the stream's context. The handler's next SendMsg or RecvMsg returns an
// error. A RecvMsg that already waits for a message goes on waiting, because grpc-go
// ends it only with the connection.
func (s *endableStream) end() {
	s.ended.Store(true)
	s.cancel(errShuttingDown)
}

// result returns the stream's error. It is errStreamEnded if the shutdown ended the
// stream's context and the handler's error says that the context was canceled.
func (s *endableStream) result(err error) error {
	if s.ended.Load() && (errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled) {
		return errStreamEnded
	}
	return err
}

// SendMsg implements [grpc.ServerStream].
func (s *endableStream) SendMsg(message any) error {
	if s.ended.Load() {
		return errStreamEnded
	}
	return s.ServerStream.SendMsg(message)
}

// RecvMsg implements [grpc.ServerStream].
func (s *endableStream) RecvMsg(message any) error {
	if s.ended.Load() {
		return errStreamEnded
	}
	return s.ServerStream.RecvMsg(message)
}
