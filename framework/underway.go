package framework

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

// errStreamEnded is the error of such a stream at its caller.
var errStreamEnded = status.Error(codes.Unavailable, "the instance shuts down and ended the stream: start it again, and it goes to another instance")

// underWay knows the calls of a server whose handlers run: those whose request
// was received. Streams of gRPC's own services (health, reflection) are kept
// apart: no shutdown waits for them.
type underWay struct {
	// names are bus names, and unary the counters of unary RPCs, by gRPC's path.
	// Neither changes once the server runs.
	names map[string]string
	unary map[string]*unaryCalls

	// mu guards the fields below.
	mu      sync.Mutex
	streams map[*endableStream]struct{}
	// infrastructureEnded and allEnded report whether streams of that kind are
	// to end, those that begin from now on included.
	infrastructureEnded, allEnded bool
}

// unaryCalls counts the running handlers of one unary RPC.
type unaryCalls struct {
	name    string
	running atomic.Int64
}

func newUnderWay(apis []*contract.API) *underWay {
	u := &underWay{names: make(map[string]string), unary: make(map[string]*unaryCalls), streams: make(map[*endableStream]struct{})}
	for _, api := range apis {
		for _, rpc := range api.RPCs {
			u.names[rpc.Method] = rpc.Name
		}
	}
	return u
}

// add has the calls of an API counted. An RPC without a contract goes by its
// path.
func (u *underWay) add(desc *grpc.ServiceDesc) {
	for _, method := range desc.Methods {
		path := "/" + desc.ServiceName + "/" + method.MethodName
		u.names[path] = cmp.Or(u.names[path], path)
		u.unary[path] = &unaryCalls{name: u.names[path]}
	}
	for _, stream := range desc.Streams {
		path := "/" + desc.ServiceName + "/" + stream.StreamName
		u.names[path] = cmp.Or(u.names[path], path)
	}
}

// begin counts a unary call until [unaryCalls.end]; nil for one of gRPC's own
// services.
func (u *underWay) begin(path string) *unaryCalls {
	calls := u.unary[path]
	if calls != nil {
		calls.running.Add(1)
	}
	return calls
}

// end is called when the handler has returned, panicked or ended its goroutine.
func (c *unaryCalls) end() {
	if c != nil {
		c.running.Add(-1)
	}
}

// serveStream runs a stream whose context can be ended.
func (u *underWay) serveStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	service, _, _ := contract.SplitMethod(info.FullMethod)
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	endable := &endableStream{ServerStream: stream, ctx: ctx, cancel: cancel, path: info.FullMethod, infrastructure: contract.IsBuiltin(service)}
	u.addStream(endable)
	defer u.removeStream(endable)
	err := handler(srv, endable)
	if endable.ended.Load() && (errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled) {
		return errStreamEnded
	}
	return err
}

func (u *underWay) addStream(stream *endableStream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.streams[stream] = struct{}{}
	if u.allEnded || stream.infrastructure && u.infrastructureEnded {
		stream.end()
	}
}

func (u *underWay) removeStream(stream *endableStream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.streams, stream)
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

// counts is how many calls of each API run, by the name of the RPC.
type counts map[string]int64

// unaryCounts returns the unary calls whose handlers run.
func (u *underWay) unaryCounts() counts {
	running := make(counts)
	for _, calls := range u.unary {
		if n := calls.running.Load(); n > 0 {
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
			running[cmp.Or(u.names[stream.path], "unknown methods")]++
		}
	}
	return running
}

// all returns both.
func (u *underWay) all() counts {
	running := u.unaryCounts()
	for name, n := range u.streamCounts() {
		running[name] += n
	}
	return running
}

// maxNamed is how many RPCs a text of counts names.
const maxNamed = 10

// String returns the counts in words, such as "2 of auth.get_user, 1 of
// auth.watch", the most first.
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

// end ends the stream's context. A handler that sends or receives has an error
// from the next message on; one that waits for a message in Recv goes on
// waiting, because grpc-go ends that with the connection only.
func (s *endableStream) end() {
	s.ended.Store(true)
	s.cancel(errShuttingDown)
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
