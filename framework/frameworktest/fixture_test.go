package frameworktest_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// echo serves the test API. EchoSoon, which may run once only, and Echo, which may run more
// often, count their runs.
type echo struct {
	testv1.UnimplementedEchoServiceServer

	runs atomic.Int64
	// before runs in each handler, if it is set.
	before func(ctx context.Context)
}

func (e *echo) run(ctx context.Context) {
	e.runs.Add(1)
	if e.before != nil {
		e.before(ctx)
	}
}

func (e *echo) register(apis grpc.ServiceRegistrar) { testv1.RegisterEchoServiceServer(apis, e) }

func (e *echo) Echo(ctx context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	e.run(ctx)
	return &testv1.EchoResponse{Text: req.GetText()}, ctx.Err()
}

func (e *echo) EchoSoon(ctx context.Context, req *testv1.EchoSoonRequest) (*testv1.EchoSoonResponse, error) {
	e.run(ctx)
	return &testv1.EchoSoonResponse{Text: req.GetText()}, ctx.Err()
}

func (e *echo) Watch(req *testv1.WatchRequest, stream testv1.EchoService_WatchServer) error {
	e.run(stream.Context())
	for range req.GetCount() {
		if err := stream.Send(&testv1.WatchResponse{Text: req.GetText()}); err != nil {
			return err
		}
	}
	return nil
}

func (e *echo) Collect(stream testv1.EchoService_CollectServer) error {
	e.run(stream.Context())
	var texts []string
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&testv1.CollectResponse{Texts: texts})
		}
		if err != nil {
			return err
		}
		texts = append(texts, req.GetText())
	}
}

func (e *echo) Chat(stream testv1.EchoService_ChatServer) error {
	e.run(stream.Context())
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testv1.ChatResponse{Text: req.GetText()}); err != nil {
			return err
		}
	}
}

// failing is a test that fails without failing the test that runs it.
type failing struct {
	testing.TB

	mu       sync.Mutex
	errors   []string
	cleanups []func()
}

// failed runs a test and its cleanups, and returns its errors.
func failed(t *testing.T, test func(tb testing.TB)) string {
	t.Helper()
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer f.end()
		test(f)
	}()
	<-done
	return strings.Join(f.errors, "\n")
}

// end runs the cleanups.
func (f *failing) end() {
	for len(f.cleanups) > 0 {
		last := f.cleanups[len(f.cleanups)-1]
		f.cleanups = f.cleanups[:len(f.cleanups)-1]
		last()
	}
}

func (f *failing) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}

func (f *failing) Error(args ...any) { f.Errorf("%s", fmt.Sprint(args...)) }

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	f.FailNow()
}

func (f *failing) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }

func (f *failing) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.errors) > 0
}

func (f *failing) FailNow() { runtime.Goexit() }

func (*failing) Output() io.Writer { return io.Discard }

func (f *failing) Cleanup(last func()) { f.cleanups = append(f.cleanups, last) }

// shapeCall makes a call, and returns its replies.
type shapeCall = func(ctx context.Context, client testv1.EchoServiceClient) ([]string, error)

// shapes are calls of each shape.
var shapes = map[string]shapeCall{
	"Echo": func(ctx context.Context, client testv1.EchoServiceClient) ([]string, error) {
		reply, err := client.Echo(ctx, &testv1.EchoRequest{Text: "a"})
		return []string{reply.GetText()}, err
	},
	"EchoSoon": func(ctx context.Context, client testv1.EchoServiceClient) ([]string, error) {
		reply, err := client.EchoSoon(ctx, &testv1.EchoSoonRequest{Text: "a"})
		return []string{reply.GetText()}, err
	},
	"Watch": func(ctx context.Context, client testv1.EchoServiceClient) ([]string, error) {
		stream, err := client.Watch(ctx, &testv1.WatchRequest{Text: "a", Count: 2})
		if err != nil {
			return nil, err
		}
		return receive(stream.Recv)
	},
	"Collect": func(ctx context.Context, client testv1.EchoServiceClient) ([]string, error) {
		stream, err := client.Collect(ctx)
		if err != nil {
			return nil, err
		}
		for _, text := range []string{"a", "b"} {
			if err := stream.Send(&testv1.CollectRequest{Text: text}); err != nil {
				break // CloseAndRecv returns why
			}
		}
		reply, err := stream.CloseAndRecv()
		return reply.GetTexts(), err
	},
	"Chat": func(ctx context.Context, client testv1.EchoServiceClient) ([]string, error) {
		stream, err := client.Chat(ctx)
		if err != nil {
			return nil, err
		}
		for _, text := range []string{"a", "b"} {
			if err := stream.Send(&testv1.ChatRequest{Text: text}); err != nil {
				break // Recv returns why
			}
		}
		if err := stream.CloseSend(); err != nil {
			return nil, err
		}
		return receive(stream.Recv)
	},
}

// wants are the replies of shapes.
var wants = map[string][]string{"Echo": {"a"}, "EchoSoon": {"a"}, "Watch": {"a", "a"}, "Collect": {"a", "b"}, "Chat": {"a", "b"}}

// receive receives all messages of a stream.
func receive[Reply interface{ GetText() string }](next func() (Reply, error)) (texts []string, err error) {
	for {
		reply, err := next()
		if err == io.EOF {
			return texts, nil
		}
		if err != nil {
			return texts, err
		}
		texts = append(texts, reply.GetText())
	}
}

// eachShape runs a test for each shape of a call.
func eachShape(t *testing.T, test func(t *testing.T, shape string, call shapeCall)) {
	t.Helper()
	for shape, call := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			test(t, shape, call)
		})
	}
}

// same fails a test whose call had other replies.
func same(tb testing.TB, shape string, got []string, err error) {
	tb.Helper()
	if err != nil || !slices.Equal(got, wants[shape]) {
		tb.Errorf("%s = %q, %v; want %q", shape, got, err, wants[shape])
	}
}

// asTest runs a test within an example, which has no test of its own. It prints nothing.
func asTest(test func(t *testing.T)) {
	verbose := flag.Lookup("test.v").Value.String()
	_ = flag.Set("test.v", "false")                    // the flag exists
	defer func() { _ = flag.Set("test.v", verbose) }() // with the value that it had
	if !testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Test", F: test}}) {
		panic("the test failed")
	}
}
