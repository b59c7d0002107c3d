package peer_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/internal/faulty/peer"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience limits how long a test waits for what must happen.
const patience = 2 * time.Minute

var hello = &testv1.EchoResponse{Text: "hello"}

// network returns a listener for a peer, and a function that connects to it.
type network func(*testing.T) (net.Listener, func(context.Context, string) (net.Conn, error))

func onTCP(t *testing.T) (net.Listener, func(context.Context, string) (net.Conn, error)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener, func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	}
}

func inMemory(*testing.T) (net.Listener, func(context.Context, string) (net.Conn, error)) {
	listener := bufconn.Listen(1 << 20)
	return listener, func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
}

// serve starts a peer and returns it with a plain grpc-go client.
func serve(t *testing.T, on network, config peer.Config, script peer.Script, options ...grpc.DialOption) (*peer.Peer, testv1.EchoServiceClient) {
	t.Helper()
	listener, dial := on(t)
	served := peer.Serve(listener, config, script)
	conn, err := grpc.NewClient("passthrough:///peer", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial),
	}, options...)...)
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
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return client.Echo(metadata.AppendToOutgoingContext(ctx, "onecall-call", "the.identity.1", "other", "a", "other", "b"), &testv1.EchoRequest{Text: "hi"}, options...)
}

func TestCallsMeetWhatTheScriptSays(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		config peer.Config
		script peer.Script
		// code and text are the status that plain grpc-go returns; requests and
		// executed are what the peer counts. grpc-go itself may send a call again.
		code     codes.Code
		text     string
		requests int
		executed int
	}{
		"an answer": {
			script: peer.Always(peer.Read(), peer.Execute(), peer.Answer(hello)),
			code:   codes.OK, requests: 1, executed: 1,
		},
		"an error alone": {
			script: peer.Always(peer.Fail(codes.NotFound, "not here")),
			code:   codes.NotFound, text: "not here", requests: 1,
		},
		"an error after a message": {
			script: peer.Always(peer.Read(), peer.Execute(), peer.FailAfterMessage(hello, codes.Aborted, "too late")),
			code:   codes.Aborted, text: "too late", requests: 1, executed: 1,
		},
		"REFUSED_STREAM once": {
			script: peer.InTurn([]peer.Step{peer.Reset(http2.ErrCodeRefusedStream)}, []peer.Step{peer.Read(), peer.Execute(), peer.Answer(hello)}),
			code:   codes.OK, requests: 2, executed: 1,
		},
		"REFUSED_STREAM after it was executed, which grpc-go believes": {
			script: peer.InTurn([]peer.Step{peer.Read(), peer.Execute(), peer.Reset(http2.ErrCodeRefusedStream)}, []peer.Step{peer.Read(), peer.Execute(), peer.Answer(hello)}),
			code:   codes.OK, requests: 2, executed: 2,
		},
		"CANCEL": {
			script: peer.Always(peer.Read(), peer.Execute(), peer.Reset(http2.ErrCodeCancel)),
			code:   codes.Canceled, text: "CANCEL", requests: 1, executed: 1,
		},
		"INTERNAL_ERROR": {
			script: peer.Always(peer.Reset(http2.ErrCodeInternal)),
			code:   codes.Internal, text: "INTERNAL_ERROR", requests: 1,
		},
		"a close after the headers": {
			script: peer.Always(peer.Close()),
			code:   codes.Unavailable, requests: 1,
		},
		"a close after the request": {
			script: peer.Always(peer.Read(), peer.Close()),
			code:   codes.Unavailable, requests: 1,
		},
		"a connection reset after it was executed": {
			script: peer.Always(peer.Read(), peer.Execute(), peer.Abort()),
			code:   codes.Unavailable, requests: 1, executed: 1,
		},
		"a close after half of a reply": {
			script: peer.Always(peer.Read(), peer.Execute(), peer.AnswerHalf(hello), peer.Close()),
			code:   codes.Unavailable, requests: 1, executed: 1,
		},
		"a close after the headers of a reply": {
			script: peer.Always(peer.Read(), peer.Execute(), peer.AnswerHeaders(), peer.Close()),
			code:   codes.Unavailable, requests: 1, executed: 1,
		},
		"a GOAWAY that leaves the stream out, which grpc-go sends again": {
			script: peer.InTurn([]peer.Step{peer.Read(), peer.Execute(), peer.GoAway(0, http2.ErrCodeNo)}, []peer.Step{peer.Read(), peer.Answer(hello)}),
			code:   codes.OK, requests: 2, executed: 1,
		},
		"a GOAWAY that takes the stream in, and then an answer": {
			script: peer.Always(peer.Read(), peer.GoAway(1, http2.ErrCodeNo), peer.Execute(), peer.Answer(hello)),
			code:   codes.OK, requests: 1, executed: 1,
		},
		"a close before anything": {
			config: peer.Config{Accepted: func(c *peer.Connection) error {
				c.Close()
				return nil
			}},
			script: peer.Always(peer.Answer(hello)),
			code:   codes.Unavailable,
		},
	} {
		for name, on := range map[string]network{"TCP": onTCP, "memory": inMemory} {
			t.Run(title+", over "+name, func(t *testing.T) {
				t.Parallel()
				served, client := serve(t, on, test.config, test.script)
				reply, err := call(t, client)
				if status.Code(err) != test.code || !strings.Contains(status.Convert(err).Message(), test.text) {
					t.Errorf("the call gave %v, want %v with %q", err, test.code, test.text)
				}
				if err == nil && reply.GetText() != "hello" {
					t.Errorf("reply = %v", reply)
				}
				if got := len(served.Requests()); got != test.requests {
					t.Errorf("%d requests on the wire, want %d", got, test.requests)
				}
				if all, one := served.Executed(""), served.Executed("the.identity.1"); all != test.executed || one != all {
					t.Errorf("executed %d, and %d by identity, want %d", all, one, test.executed)
				}
			})
		}
	}
}

func TestARequestIsRecorded(t *testing.T) {
	t.Parallel()
	served, client := serve(t, onTCP, peer.Config{}, peer.Always(peer.Read(), peer.Execute(), peer.Answer(hello)))
	for range 2 {
		if _, err := call(t, client); err != nil {
			t.Fatal(err)
		}
	}
	for i, got := range served.Requests() {
		if got.Number != i+1 || got.Connection != 1 || got.Stream != uint32(2*i+1) || !got.Whole || !got.Executed || got.Reset != nil {
			t.Errorf("request = %+v", got)
		}
		if got.Path != testv1.EchoService_Echo_FullMethodName || got.Identity() != "the.identity.1" || !slices.Equal(got.Metadata["other"], []string{"a", "b"}) {
			t.Errorf("request = %+v", got)
		}
		if want := "\x00\x00\x00\x00\x04\x0a\x02hi"; string(got.Body) != want {
			t.Errorf("body = %q, want %q", got.Body, want)
		}
	}
	if served.Executed("another") != 0 || served.Connections() != 1 {
		t.Errorf("executed %d of another, over %d connections", served.Executed("another"), served.Connections())
	}
}

func TestTrailersArrive(t *testing.T) {
	t.Parallel()
	for title, step := range map[string]peer.Step{
		"of an error alone":           peer.Fail(codes.Aborted, "no", "onecall-outcome", "refused"),
		"of an error after a message": peer.FailAfterMessage(hello, codes.Aborted, "no", "onecall-outcome", "refused"),
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			_, client := serve(t, onTCP, peer.Config{}, peer.Always(peer.Read(), step))
			var trailers metadata.MD
			if _, err := call(t, client, grpc.Trailer(&trailers)); status.Code(err) != codes.Aborted {
				t.Error(err)
			}
			if got := trailers.Get("onecall-outcome"); !slices.Equal(got, []string{"refused"}) {
				t.Errorf("trailers = %v", trailers)
			}
		})
	}
}

func TestASilentPeerIsWaitedForAndSeesTheReset(t *testing.T) {
	t.Parallel()
	served, client := serve(t, onTCP, peer.Config{}, peer.Always(peer.Read(), peer.Execute(), peer.Silence()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	calling, giveUp := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := client.Echo(calling, &testv1.EchoRequest{})
		ended <- err
	}()
	if _, err := served.Wait(ctx, func(all []peer.Request) bool { return len(all) == 1 && all[0].Executed }); err != nil {
		t.Fatal(err)
	}
	giveUp()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("the call gave %v", err)
	}
	all, err := served.Wait(ctx, func(all []peer.Request) bool { return all[0].Reset != nil })
	if err != nil {
		t.Fatal(err)
	}
	if *all[0].Reset != http2.ErrCodeCancel {
		t.Errorf("reset with %v", *all[0].Reset)
	}
}

func TestAScriptWaitsForTheTest(t *testing.T) {
	t.Parallel()
	answer := make(chan struct{})
	served, client := serve(t, inMemory, peer.Config{}, peer.Always(peer.Read(), peer.Until(answer), peer.Answer(hello)))
	ended := make(chan error, 1)
	go func() {
		_, err := call(t, client)
		ended <- err
	}()
	if _, err := served.Wait(t.Context(), func(all []peer.Request) bool { return len(all) == 1 && all[0].Whole }); err != nil {
		t.Error(err)
	}
	close(answer)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestALimitOfStreamsIsHeeded(t *testing.T) {
	t.Parallel()
	first := make(chan struct{})
	served, client := serve(t, onTCP, peer.Config{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}},
		peer.InTurn([]peer.Step{peer.Until(first), peer.Answer(hello)}, []peer.Step{peer.Answer(hello)}))
	ended := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := call(t, client)
			ended <- err
		}()
	}
	if _, err := served.Wait(t.Context(), func(all []peer.Request) bool { return len(all) == 1 }); err != nil {
		t.Fatal(err)
	}
	close(first)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestLargeRequestsAndRepliesPass(t *testing.T) {
	t.Parallel()
	_, client := serve(t, onTCP, peer.Config{}, peer.Always(peer.Read(), peer.Answer(&testv1.EchoResponse{Text: strings.Repeat("a", 40<<10)})))
	for range 3 { // more than a connection's window
		reply, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: strings.Repeat("b", 100<<10)})
		if err != nil || len(reply.GetText()) != 40<<10 {
			t.Errorf("%d bytes, %v", len(reply.GetText()), err)
		}
	}
}

func TestWhatAScriptCannotDoIsTold(t *testing.T) {
	t.Parallel()
	listener, dial := inMemory(t)
	served := peer.Serve(listener, peer.Config{}, peer.Always(peer.Answer(&testv1.EchoResponse{Text: strings.Repeat("a", 1<<20)})))
	conn, err := grpc.NewClient("passthrough:///peer", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := call(t, testv1.NewEchoServiceClient(conn)); status.Code(err) != codes.Internal {
		t.Errorf("the call gave %v", err)
	}
	if err := served.Close(); err == nil || !strings.Contains(err.Error(), "make it smaller") {
		t.Errorf("Close = %v", err)
	}
}

func TestAGoAwayAtTheGreetingSendsCallsToTheNextConnection(t *testing.T) {
	t.Parallel()
	served, client := serve(t, onTCP, peer.Config{Greeted: func(c *peer.Connection) error {
		if c.Number() > 1 {
			return nil
		}
		return c.GoAway(0, http2.ErrCodeNo)
	}}, func(request peer.Request) []peer.Step {
		if request.Connection == 1 { // it was under way already
			return []peer.Step{peer.Silence()}
		}
		return []peer.Step{peer.Read(), peer.Execute(), peer.Answer(hello)}
	})
	if _, err := call(t, client); err != nil {
		t.Error(err)
	}
	if served.Executed("") != 1 || served.Connections() != 2 {
		t.Errorf("executed %d, over %d connections", served.Executed(""), served.Connections())
	}
}

func TestWaitSaysWhatDidNotArrive(t *testing.T) {
	t.Parallel()
	served, _ := serve(t, onTCP, peer.Config{}, peer.Always())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := served.Wait(ctx, func([]peer.Request) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}
