package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/internal/faulty/peer"
	"github.com/onecall-dev/onecall/internal/faulty/proxy"
	"github.com/onecall-dev/onecall/internal/faulty/replay"
	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// instance is plain grpc-go's service, which counts its runs by identity.
type instance struct {
	testv1.UnimplementedEchoServiceServer

	address string
	answer  func() error // nil is OK

	mu   sync.Mutex
	runs []string
}

func (i *instance) Echo(ctx context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	i.mu.Lock()
	i.runs = append(i.runs, strings.Join(metadata.ValueFromIncomingContext(ctx, "onecall-call"), ","))
	i.mu.Unlock()
	if i.answer != nil {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("onecall-outcome", "executed"))
		return nil, i.answer()
	}
	return &testv1.EchoResponse{Text: req.GetText()}, nil
}

func (i *instance) Chat(stream testv1.EchoService_ChatServer) error {
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			return status.Error(codes.Aborted, "enough")
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testv1.ChatResponse{Text: req.GetText()}); err != nil {
			return err
		}
	}
}

func (i *instance) ran() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.runs)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// start gives an instance that answers so.
func start(t *testing.T, answer func() error) *instance {
	t.Helper()
	started, server := &instance{answer: answer}, grpc.NewServer()
	testv1.RegisterEchoServiceServer(server, started)
	started.address = grpctest.Loopback(t, server)
	return started
}

func fails(code codes.Code) func() error {
	return func() error { return status.Error(code, "100 % of it: it fails") }
}

// between gives a proxy and plain grpc-go's client of it.
func between(t *testing.T, config proxy.Config) (*proxy.Proxy, testv1.EchoServiceClient) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	served, err := proxy.Serve(listener, config)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///api", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		if err := served.Close(); err != nil {
			t.Error(err)
		}
	})
	return served, testv1.NewEchoServiceClient(conn)
}

func call(t *testing.T, client testv1.EchoServiceClient, options ...grpc.CallOption) (*testv1.EchoResponse, error) {
	t.Helper()
	return client.Echo(metadata.AppendToOutgoingContext(t.Context(), "onecall-call", "the.identity.1"), &testv1.EchoRequest{Text: "hi"}, options...)
}

func kinds(actions []proxy.Action) string {
	var text []string
	for _, action := range actions {
		text = append(text, fmt.Sprintf("%s %s", action.Kind, action.Code))
	}
	return strings.Join(text, ", ")
}

func TestCallsAreReplayed(t *testing.T) {
	t.Parallel()
	const later = 20 * time.Millisecond
	for title, test := range map[string]struct {
		replay    func(backends []string) proxy.Replay
		one, two  int
		recording string
	}{
		"never":                              {func([]string) proxy.Replay { return nil }, 1, 0, "passed OK"},
		"at once, to the same":               {func([]string) proxy.Replay { return proxy.Same(0) }, 2, 0, "passed OK, replayed OK"},
		"at once and later, to the same":     {func([]string) proxy.Replay { return proxy.Same(0, later) }, 3, 0, "passed OK, replayed OK, replayed OK"},
		"at once, to another":                {func(b []string) proxy.Replay { return proxy.Elsewhere(b, 0) }, 1, 1, "passed OK, replayed OK"},
		"later, to another":                  {func(b []string) proxy.Replay { return proxy.Elsewhere(b, later) }, 1, 1, "passed OK, replayed OK"},
		"with a chance of all":               {func([]string) proxy.Replay { return proxy.Some(1, proxy.Same(0)) }, 2, 0, "passed OK, replayed OK"},
		"with a chance of none":              {func([]string) proxy.Replay { return proxy.Some(0, proxy.Same(0)) }, 1, 0, "passed OK"},
		"to an address that is no backend's": {func(b []string) proxy.Replay { return proxy.Elsewhere([]string{b[1]}, 0) }, 1, 1, "passed OK, replayed OK"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			one, two := start(t, nil), start(t, nil)
			backends := []string{one.address, two.address}
			between, client := between(t, proxy.Config{Backends: backends, Replay: test.replay(backends)})
			if reply, err := call(t, client); err != nil || reply.GetText() != "hi" {
				t.Errorf("the call gave %v, %v", reply, err)
			}
			if err := between.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if one.ran() != test.one || two.ran() != test.two {
				t.Errorf("%d and %d runs, want %d and %d", one.ran(), two.ran(), test.one, test.two)
			}
			for _, identity := range slices.Concat(one.runs, two.runs) {
				if identity != "the.identity.1" {
					t.Errorf("a run has the identity %q", identity)
				}
			}
			if got := kinds(between.Actions()); got != test.recording {
				t.Errorf("recorded %s, want %s", got, test.recording)
			}
		})
	}
}

func TestCallsAreRetriedLikeAMesh(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		retry     proxy.Retry
		answer    func() error
		code      codes.Code
		one, two  int
		recording string
	}{
		"UNAVAILABLE, on another host": {proxy.LikeAMesh, fails(codes.Unavailable), codes.OK, 1, 1, "passed Unavailable, retried OK"},
		"CANCELLED, on another host":   {proxy.LikeAMesh, fails(codes.Canceled), codes.OK, 1, 1, "passed Canceled, retried OK"},
		"not what is not to be":        {proxy.LikeAMesh, fails(codes.FailedPrecondition), codes.FailedPrecondition, 1, 0, "passed FailedPrecondition"},
		"not without being told":       {proxy.Retry{}, fails(codes.Unavailable), codes.Unavailable, 1, 0, "passed Unavailable"},
		"as often as told": {
			proxy.Retry{On: []codes.Code{codes.Aborted}, Attempts: 1}, fails(codes.Aborted), codes.Aborted, 1, 0, "passed Aborted",
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			one, two := start(t, test.answer), start(t, nil)
			between, client := between(t, proxy.Config{Backends: []string{one.address, two.address}, Retry: test.retry})
			var trailers metadata.MD
			_, err := call(t, client, grpc.Trailer(&trailers))
			if status.Code(err) != test.code {
				t.Errorf("the call gave %v, want %v", err, test.code)
			}
			if err != nil && (status.Convert(err).Message() != "100 % of it: it fails" || !slices.Equal(trailers["onecall-outcome"], []string{"executed"})) {
				t.Errorf("the call gave %v with %v, not the backend's answer", err, trailers)
			}
			if one.ran() != test.one || two.ran() != test.two {
				t.Errorf("%d and %d runs, want %d and %d", one.ran(), two.ran(), test.one, test.two)
			}
			if got := kinds(between.Actions()); got != test.recording {
				t.Errorf("recorded %s, want %s", got, test.recording)
			}
		})
	}
}

func TestABrokenConnectionIsRetriedElsewhere(t *testing.T) {
	t.Parallel()
	broken := peer.Serve(listen(t), peer.Config{}, peer.Always(peer.Read(), peer.Execute(), peer.Abort()))
	defer func() {
		if err := broken.Close(); err != nil {
			t.Error(err)
		}
	}()
	whole := start(t, nil)
	between, client := between(t, proxy.Config{Backends: []string{broken.Address(), whole.address}, Retry: proxy.LikeAMesh})
	if _, err := call(t, client); err != nil {
		t.Error(err)
	}
	if broken.Executed("the.identity.1") != 1 || len(broken.Requests()) != 1 || whole.ran() != 1 {
		t.Errorf("%d and %d runs, of %d requests at the first", broken.Executed(""), whole.ran(), len(broken.Requests()))
	}
	if actions := between.Actions(); kinds(actions) != "passed Unavailable, retried OK" || actions[0].Err == nil || actions[1].Err != nil {
		t.Errorf("recorded %+v", actions)
	}
}

func TestNoBackendIsUnavailable(t *testing.T) {
	t.Parallel()
	gone := listen(t)
	gone.Close()
	_, client := between(t, proxy.Config{Backends: []string{gone.Addr().String()}, Streams: func(path string) bool { return path == testv1.EchoService_Chat_FullMethodName }})
	if _, err := call(t, client); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "proxy: ") {
		t.Errorf("the call gave %v", err)
	}
	stream, err := client.Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream gave %v", err)
	}
}

func TestStreamsArePassedThrough(t *testing.T) {
	t.Parallel()
	one := start(t, nil)
	between, client := between(t, proxy.Config{
		Backends: []string{one.address}, Replay: proxy.Same(0), Retry: proxy.LikeAMesh,
		Streams: func(path string) bool { return path == testv1.EchoService_Chat_FullMethodName },
	})
	stream, err := client.Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "b"} { // each answered before the next is sent
		if err := stream.Send(&testv1.ChatRequest{Text: text}); err != nil {
			t.Fatal(err)
		}
		if reply, err := stream.Recv(); err != nil || reply.GetText() != text {
			t.Errorf("reply = %v, %v", reply, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Aborted || status.Convert(err).Message() != "enough" {
		t.Errorf("the stream ended with %v", err)
	}
	if got := kinds(between.Actions()); got != "streamed OK" {
		t.Errorf("recorded %s", got)
	}
}

func TestBackendsTakeTurnsUnlessPicked(t *testing.T) {
	t.Parallel()
	one, two := start(t, nil), start(t, nil)
	backends := []string{one.address, two.address}
	_, byTurns := between(t, proxy.Config{Backends: backends})
	_, picked := between(t, proxy.Config{Backends: backends, Pick: func(replay.Call) int { return 1 }})
	for _, client := range []testv1.EchoServiceClient{byTurns, picked} {
		for range 4 {
			if _, err := call(t, client); err != nil {
				t.Fatal(err)
			}
		}
	}
	if one.ran() != 2 || two.ran() != 6 {
		t.Errorf("%d and %d runs, want 2 and 6", one.ran(), two.ran())
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	silent := peer.Serve(listen(t), peer.Config{}, peer.Always(peer.Read(), peer.Silence()))
	defer silent.Close()
	listener := listen(t)
	served, err := proxy.Serve(listener, proxy.Config{Backends: []string{silent.Address()}, Replay: proxy.Same(0, time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := call(t, testv1.NewEchoServiceClient(conn))
		ended <- err
	}()
	if _, err := silent.Wait(t.Context(), func(all []peer.Request) bool {
		return len(all) == 2 && all[0].Whole && all[1].Whole
	}); err != nil {
		t.Fatal(err)
	}
	if err := served.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("the call gave %v", err)
	}
}

func TestAProxyNeedsABackend(t *testing.T) {
	t.Parallel()
	if _, err := proxy.Serve(nil, proxy.Config{}); err == nil || !strings.Contains(err.Error(), "no backends") {
		t.Errorf("err = %v", err)
	}
}
