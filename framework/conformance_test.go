package framework_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// said is what one end saw, in words that are the same for each way.
type said struct {
	mu    sync.Mutex // guards the field below
	lines []string
}

func (s *said) addf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// end adds all that an error says.
func (s *said) end(err error) {
	if err == nil {
		s.addf("OK")
		return
	}
	st := status.Convert(err)
	s.addf("%v %q, outcome %v, details %v, error %v", st.Code(), st.Message(), framework.OutcomeOf(err), st.Details(), err)
}

// md adds metadata, in order.
func (s *said) md(what string, md metadata.MD) {
	for _, key := range slices.Sorted(maps.Keys(md)) {
		s.addf("%s %s=%q", what, key, md[key])
	}
	s.addf("%s is nil: %v", what, md == nil)
}

// world is a service and a bus of one way.
type world struct {
	t      *testing.T
	way    way
	bus    *framework.Bus
	client testv1.EchoServiceClient
	plain  testv1.PlainServiceClient
	// said is what the caller saw, and served what the service saw.
	said, served said
}

// words returns what both ends saw.
func (w *world) words() []string { return slices.Concat(w.said.lines, w.served.lines) }

// newWorld serves e, and checks the way that calls take.
func newWorld(t *testing.T, w way, e *echo, options ...any) *world {
	t.Helper()
	var serving []framework.ServeOption
	calling := slices.Clone(w.bus)
	for _, option := range options {
		if option, ok := option.(framework.ServeOption); ok {
			serving = append(serving, option)
		}
		if option, ok := option.(framework.BusOption); ok {
			calling = append(calling, option)
		}
	}
	registry := memory.New()
	start(t, registry, e, serving...)
	bus := newBusOf(t, registry, calling...)
	ready(t, bus, "test.echo", "onecall.test.v1.PlainService")
	return &world{t: t, way: w, bus: bus, client: testv1.NewEchoServiceClient(bus), plain: testv1.NewPlainServiceClient(bus)}
}

// taken fails the test if a call does not take the world's way.
func (w *world) taken(ctx context.Context) { w.way.taken(w.t, ctx) }

// detailed returns an error with a detail.
func detailed() error {
	st, err := status.New(codes.NotFound, "no \u00e4 such\nthing").WithDetails(&errdetails.ErrorInfo{Reason: "GONE", Domain: "test"})
	if err != nil {
		return err
	}
	return st.Err()
}

type secretKey struct{}

// conversations are calls and what a program sees of them at both ends. Each must see the
// same over each way.
var conversations = map[string]func(t *testing.T, over way) []string{
	"a unary call with metadata": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		e := &echo{echo: func(ctx context.Context, text string) (string, error) {
			w.taken(ctx)
			method, _ := grpc.Method(ctx)
			w.served.addf("method %s, secret %v", method, ctx.Value(secretKey{}))
			_, limited := ctx.Deadline()
			w.served.addf("has a deadline: %v", limited)
			arrived, _ := metadata.FromIncomingContext(ctx)
			delete(arrived, ":authority")
			w.served.md("arrived", arrived)
			_, outgoing := metadata.FromOutgoingContext(ctx)
			w.served.addf("the caller's metadata is outgoing: %v", outgoing)
			w.served.addf("set %v", grpc.SetHeader(ctx, metadata.Pairs("one", "1", "content-type", "forged")))
			w.served.addf("sent %v", grpc.SendHeader(ctx, metadata.Pairs("two", "2", "bytes-bin", "\x00\xff")))
			w.served.addf("again %v", grpc.SendHeader(ctx, metadata.Pairs("three", "3")) == nil)
			w.served.addf("late %v", grpc.SetHeader(ctx, metadata.Pairs("four", "4")) == nil)
			w.served.addf("trailer %v", grpc.SetTrailer(ctx, metadata.Pairs("five", "5", "onecall-x", "reserved")))
			return text, nil
		}}
		w = newWorld(t, over, e)
		ctx := context.WithValue(t.Context(), secretKey{}, "secret")
		ctx = metadata.AppendToOutgoingContext(ctx, "some", "value", "some", "other", "more-bin", "\x00\x01", "onecall-call", "forged", "te", "no", "user-agent", "mine")
		var header, trailer metadata.MD
		var from peer.Peer
		var ends []error
		reply, err := w.client.Echo(ctx, &testv1.EchoRequest{Text: "ä"}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&from), grpc.OnFinish(func(err error) { ends = append(ends, err) }))
		w.said.end(err)
		w.said.addf("reply %q, peer %v, ends %v", reply.GetText(), from.Addr != nil && from.LocalAddr != nil, ends)
		w.said.md("header", header)
		w.said.md("trailer", trailer)
		return w.words()
	},
	"errors of a handler": func(t *testing.T, over way) []string {
		t.Helper()
		errs := map[string]error{
			"a status": status.Error(codes.AlreadyExists, "there is one"), "details": detailed(), "no status": errors.New("secret"),
			"no text": status.Error(codes.NotFound, "\xff\xfe"), "deadline": context.DeadlineExceeded, "canceled": fmt.Errorf("no: %w", context.Canceled), "an odd code": status.Error(codes.Code(77), "odd"),
			"wrapped": fmt.Errorf("more: %w", status.Error(codes.Aborted, "less")),
		}
		var w *world
		e := &echo{soon: func(ctx context.Context, text string) (string, error) {
			w.taken(ctx)
			if text == "with header" {
				_ = grpc.SetHeader(ctx, metadata.Pairs("a", "b"))
				return "", status.Error(codes.Aborted, "with header")
			}
			_ = grpc.SetTrailer(ctx, metadata.Pairs("c", "d"))
			return "", errs[text]
		}}
		w = newWorld(t, over, e, framework.ExposeErrors())
		for _, name := range append(slices.Sorted(maps.Keys(errs)), "with header") {
			var header, trailer metadata.MD
			reply, err := w.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: name}, grpc.Header(&header), grpc.Trailer(&trailer))
			w.said.addf("%s: reply %v", name, reply)
			w.said.end(err)
			w.said.md("header", header)
			w.said.md("trailer", trailer)
		}
		return w.words()
	},
	"a panic": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		w = newWorld(t, over, &echo{soon: func(ctx context.Context, _ string) (string, error) { w.taken(ctx); panic("secret") }})
		_, err := w.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		w.said.addf("%v, outcome %v", status.Code(err), framework.OutcomeOf(err))
		return w.words()
	},
	"a handler that ends its goroutine": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		w = newWorld(t, over, &echo{soon: func(ctx context.Context, _ string) (string, error) { w.taken(ctx); runtime.Goexit(); return "", nil }})
		_, err := w.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		w.said.addf("%v, outcome %v", status.Code(err), framework.OutcomeOf(err))
		return w.words()
	},
	"messages that cannot be sent": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		e := &echo{soon: func(_ context.Context, text string) (string, error) {
			if text == "bad" {
				return "\xff", nil
			}
			return strings.Repeat("x", len(text)), nil
		}}
		w = newWorld(t, over, e, framework.MaxMessageSize(1<<20))
		long := strings.Repeat("x", 1000)
		for _, test := range []struct {
			text string
			opts []grpc.CallOption
		}{
			{text: "\xff"},
			{text: "bad"},
			{text: strings.Repeat("x", 2<<20)},
			{text: long, opts: []grpc.CallOption{grpc.MaxCallSendMsgSize(500)}},
			{text: long, opts: []grpc.CallOption{grpc.MaxCallRecvMsgSize(500)}},
			{text: "fine", opts: []grpc.CallOption{grpc.MaxCallRecvMsgSize(500), grpc.MaxCallSendMsgSize(500)}},
			{text: "packed", opts: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
		} {
			reply, err := w.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: test.text}, test.opts...)
			w.said.addf("reply of %d", len(reply.GetText()))
			w.said.end(err)
		}
		for _, key := range []string{"Bad Key", "bad"} {
			_, err := w.client.EchoSoon(metadata.NewOutgoingContext(t.Context(), metadata.MD{key: {"\x01"}}), &testv1.EchoSoonRequest{})
			w.said.end(err)
		}
		return w.words()
	},
	"a request that breaks rules": func(t *testing.T, over way) []string {
		t.Helper()
		w := newWorld(t, over, &echo{})
		_, err := w.client.Echo(t.Context(), &testv1.EchoRequest{Text: strings.Repeat("x", 65537)})
		w.said.end(err)
		return w.words()
	},
	"interceptors of both sides": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		ofAPI := func(path string) bool { return strings.Contains(path, "EchoService") }
		note := func(name string) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
			return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
					w.served.addf("%s before %s, server %T, request %T", name, info.FullMethod, info.Server, req)
					reply, err := handler(ctx, req)
					w.served.addf("%s after: %T %v", name, reply, err)
					return reply, err
				}, func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
					if !ofAPI(info.FullMethod) {
						return handler(srv, stream)
					}
					w.served.addf("%s before %+v, server %T", name, *info, srv)
					err := handler(srv, stream)
					w.served.addf("%s after: %v", name, err)
					return err
				}
		}
		unary, stream := note("own")
		w = newWorld(t, over, &echo{echo: func(ctx context.Context, text string) (string, error) { w.taken(ctx); return text, nil }},
			framework.BeforeAdmission(note("outer")), framework.AfterAdmission(note("inner")),
			framework.ServerOptions(grpc.ChainUnaryInterceptor(unary), grpc.ChainStreamInterceptor(stream)),
			framework.DialOptions(grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				w.said.addf("caller before %s", method)
				err := invoke(metadata.AppendToOutgoingContext(ctx, "added", "yes"), method, req, reply, conn, opts...)
				w.said.addf("caller after %v", err)
				if err == nil && req.(*testv1.EchoRequest).GetText() == "twice" {
					w.said.end(invoke(ctx, method, req, reply, conn, opts...))
				}
				return err
			})))
		for _, text := range []string{"once", "twice"} {
			_, err := w.client.Echo(t.Context(), &testv1.EchoRequest{Text: text})
			w.said.end(err)
		}
		watch, err := w.client.Watch(t.Context(), &testv1.WatchRequest{Count: 1})
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = watch.Recv()
		}
		w.said.addf("the stream ends with %v", err)
		return w.words()
	},
	"a call that a place refuses": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		refuse := func(ctx context.Context) (context.Context, error) {
			if given := metadata.ValueFromIncomingContext(ctx, "token"); len(given) == 1 {
				return framework.WithPrincipal(ctx, given[0]), nil
			}
			return nil, status.Error(codes.Unauthenticated, "who?")
		}
		w = newWorld(t, over, &echo{}, framework.Authenticate(refuse), framework.Authorize(map[string][]string{"test.echo": {"ann"}, "onecall.test.v1.PlainService": {"*"}}))
		for _, token := range []string{"", "bob", "ann"} {
			ctx := t.Context()
			if token != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "token", token)
			}
			_, err := w.client.EchoSoon(ctx, &testv1.EchoSoonRequest{})
			w.said.end(err)
			stream, err := w.client.Watch(ctx, &testv1.WatchRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			w.said.end(err)
		}
		return w.words()
	},
	"a stream with metadata": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		e := &echo{watch: func(stream testv1.EchoService_WatchServer) error {
			w.taken(stream.Context())
			w.served.addf("secret %v", stream.Context().Value(secretKey{}))
			arrived, _ := metadata.FromIncomingContext(stream.Context())
			delete(arrived, ":authority")
			w.served.md("arrived", arrived)
			w.served.addf("bad %v", stream.SetHeader(metadata.MD{"Bad": {"x"}}))
			w.served.addf("set %v", stream.SetHeader(metadata.Pairs("one", "1")))
			w.served.addf("sent %v", stream.SendHeader(metadata.Pairs("two", "2")))
			w.served.addf("again %v", stream.SendHeader(metadata.Pairs("two", "2")) == nil)
			stream.SetTrailer(metadata.Pairs("three", "3", "onecall-x", "reserved"))
			if err := stream.Send(&testv1.WatchResponse{Text: "m"}); err != nil {
				return err
			}
			return detailed()
		}}
		w = newWorld(t, over, e)
		ctx := metadata.AppendToOutgoingContext(context.WithValue(t.Context(), secretKey{}, "secret"), "some", "value")
		stream, err := w.client.Watch(ctx, &testv1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		header, err := stream.Header()
		w.said.md("header", header)
		w.said.addf("%v", err)
		for range 3 {
			reply, err := stream.Recv()
			w.said.addf("%v", reply.GetText())
			w.said.end(err)
		}
		w.said.md("trailer", stream.Trailer())
		_, has := peer.FromContext(stream.Context())
		w.said.addf("peer %v, ended %v", has, stream.Context().Err())
		return w.words()
	},
	"a stream that ends at once": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		e := &echo{watch: func(testv1.EchoService_WatchServer) error { return status.Error(codes.NotFound, "none") }}
		w = newWorld(t, over, e)
		var ended []error
		var header, trailer metadata.MD
		stream, err := w.client.Watch(t.Context(), &testv1.WatchRequest{}, grpc.OnFinish(func(err error) { ended = append(ended, err) }), grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		at, err := stream.Header()
		w.said.md("header", at)
		w.said.addf("%v", err)
		_, err = stream.Recv()
		w.said.end(err)
		w.said.md("header", header)
		w.said.md("trailer", trailer)
		w.said.addf("ended %v", ended)
		return w.words()
	},
	"streams of each kind": func(t *testing.T, over way) []string {
		t.Helper()
		var s said
		w := newWorld(t, over, &echo{})
		for _, name := range slices.Sorted(maps.Keys(streams)) {
			got, err := streams[name](t.Context(), w.client, pieces(200, 3000))
			s.addf("%s %d %.40s", name, len(got), strings.Join(got, ""))
			s.end(err)
		}
		collect, err := w.client.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		reply, err := collect.CloseAndRecv()
		s.addf("%v", reply.GetTexts())
		s.end(err)
		s.addf("sent after the end: %v", collect.Send(&testv1.CollectRequest{}))
		return s.lines
	},
	"a stream whose caller leaves": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		left := make(chan error, 1)
		e := &echo{watch: func(stream testv1.EchoService_WatchServer) error {
			if err := stream.Send(&testv1.WatchResponse{}); err != nil {
				return err
			}
			<-stream.Context().Done()
			w.served.addf("send %v", status.Code(stream.Send(&testv1.WatchResponse{})))
			left <- stream.Context().Err()
			return stream.Context().Err()
		}}
		w = newWorld(t, over, e)
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := w.client.Watch(ctx, &testv1.WatchRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		_, err = stream.Recv()
		err2 := <-left
		w.said.end(err)
		w.said.addf("%v", err2)
		return w.words()
	},
	"a unary call whose caller leaves": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		entered, left := make(chan struct{}), make(chan error, 1)
		e := &echo{soon: func(ctx context.Context, _ string) (string, error) {
			w.taken(ctx)
			close(entered)
			<-ctx.Done()
			left <- ctx.Err()
			return "late", nil
		}}
		w = newWorld(t, over, e)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			<-entered
			cancel()
		}()
		_, err := w.client.EchoSoon(ctx, &testv1.EchoSoonRequest{})
		w.said.end(err)
		w.said.addf("the handler: %v", <-left)
		return w.words()
	},
	"a deadline that passes": func(t *testing.T, over way) []string {
		t.Helper()
		var w *world
		left, leave := make(chan error, 1), make(chan struct{})
		e := &echo{soon: func(ctx context.Context, _ string) (string, error) {
			w.taken(ctx)
			<-ctx.Done()
			<-leave // the caller does not wait for the handler
			left <- ctx.Err()
			return "late", nil
		}}
		w = newWorld(t, over, e)
		_, err := w.client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}, framework.Timeout(200*time.Millisecond))
		close(leave)
		w.said.addf("%v, outcome %v", status.Code(err), framework.OutcomeOf(err))
		w.said.addf("the handler's context has ended: %v", <-left != nil)
		return w.words()
	},
}

// TestEachWayIsTheSame holds conversations over each way, and compares what both ends saw.
func TestEachWayIsTheSame(t *testing.T) {
	t.Parallel()
	for name, hold := range conversations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := hold(t, ways[0])
			if len(want) == 0 {
				t.Fatal("the conversation says nothing")
			}
			for _, w := range each() {
				t.Run(w.name, func(t *testing.T) {
					got := hold(t, w)
					for i := range max(len(got), len(want)) {
						if i >= len(got) || i >= len(want) || got[i] != want[i] {
							t.Fatalf("line %d differs from that of %s\n got %s\nwant %s", i, ways[0].name, strings.Join(got[min(i, len(got)):], "\n     "), strings.Join(want[min(i, len(want)):], "\n     "))
						}
					}
				})
			}
		})
	}
}
