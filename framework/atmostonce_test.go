package framework_test

import (
	"context"
	"encoding/base64"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"golang.org/x/net/http2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/peer"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// scripted serves a script as an instance of the test API until the test ends.
func scripted(t *testing.T, registry *memory.Registry, script peer.Script) *peer.Peer {
	t.Helper()
	return scriptedWith(t, registry, peer.Config{}, script)
}

func scriptedWith(t *testing.T, registry *memory.Registry, config peer.Config, script peer.Script) *peer.Peer {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := peer.Serve(listener, config, script)
	registration, err := registry.Register(discovery.Instance{
		API: "test.echo", Address: p.Address(), Incarnation: discovery.NewIncarnation(), State: discovery.Serving,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = registration.Close(context.Background())
		_ = p.Close()
	})
	return p
}

var good = peer.Always(peer.Read(), peer.Execute(), peer.Answer(&testv1.EchoSoonResponse{Text: "good"}))

// refusal is an error reply of an instance, with the trailers as they are sent.
func refusal(code codes.Code, reason, outcome string) peer.Script {
	return func(request peer.Request) []peer.Step {
		incarnation, _, _ := strings.Cut(request.Identity(), ".")
		trailers := []string{atmostonce.IncarnationKey, incarnation}
		if outcome != "" {
			trailers = append(trailers, atmostonce.OutcomeKey, outcome)
		}
		if reason != "" {
			detailed, err := status.New(code, "no").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: atmostonce.Domain})
			if err != nil {
				panic(err)
			}
			encoded, err := proto.Marshal(detailed.Proto())
			if err != nil {
				panic(err)
			}
			trailers = append(trailers, "grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(encoded))
		}
		return []peer.Step{peer.Read(), peer.Fail(code, "no", trailers...)}
	}
}

// arrived counts the requests of all peers.
func arrived(peers ...*peer.Peer) int {
	count := 0
	for _, p := range peers {
		count += len(p.Requests())
	}
	return count
}

func TestACallIsSentOnceWhateverThePeerSays(t *testing.T) {
	t.Parallel()
	retryPolicy := framework.DialOptions(grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{
		"maxAttempts":5,"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE","INTERNAL","CANCELLED"]}}]}`))
	retryInterceptor := framework.DialOptions(grpc.WithChainUnaryInterceptor(retry.UnaryClientInterceptor(
		retry.WithMax(5), retry.WithCodes(codes.Unavailable, codes.Internal, codes.Canceled), retry.WithBackoff(retry.BackoffLinear(time.Millisecond)))))
	for name, steps := range map[string][]peer.Step{
		"REFUSED_STREAM after it ran the call":   {peer.Read(), peer.Execute(), peer.Reset(http2.ErrCodeRefusedStream)},
		"CANCEL after it ran the call":           {peer.Read(), peer.Execute(), peer.Reset(http2.ErrCodeCancel)},
		"GOAWAY below the call, after it ran":    {peer.Read(), peer.Execute(), peer.GoAway(0, http2.ErrCodeNo), peer.Close()},
		"reset of the connection after it ran":   {peer.Read(), peer.Execute(), peer.Abort()},
		"close after half a reply":               {peer.Read(), peer.Execute(), peer.AnswerHalf(&testv1.EchoSoonResponse{Text: "half"}), peer.Close()},
		"UNAVAILABLE without a word on the call": {peer.Read(), peer.Execute(), peer.Fail(codes.Unavailable, "busy")},
	} {
		for with, options := range map[string][]framework.BusOption{
			"nothing else":        nil,
			"a retry policy":      {retryPolicy},
			"a retry interceptor": {retryInterceptor},
		} {
			t.Run(name+", with "+with, func(t *testing.T) {
				t.Parallel()
				registry := memory.New()
				peers := []*peer.Peer{scripted(t, registry, peer.Always(steps...)), scripted(t, registry, peer.Always(steps...))}
				bus := newBus(t, registry, options...)
				ready(t, bus, "test.echo")
				_, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
				if err == nil || framework.OutcomeOf(err) != framework.Unknown {
					t.Errorf("the call = %v, want an error whose outcome is unknown", err)
				}
				// A text that a handler may have written is not changed.
				own := strings.HasSuffix(err.Error(), "desc = busy")
				if !own && !strings.Contains(err.Error(), "(it is not known whether the call ran)") {
					t.Errorf("the call = %v, want an error that says that its outcome is not known", err)
				}
				if got := arrived(peers...); got != 1 {
					t.Errorf("%d requests arrived, want 1", got)
				}
			})
		}
	}
}

func TestWhatNeverLeftIsRetriedElsewhere(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	// The first server sends GOAWAY right after the preface, so that most calls get
	// no stream there. A call that had a stream when GOAWAY came may have been
	// written, and is not sent again.
	leaving := scriptedWith(t, registry, peer.Config{Greeted: func(c *peer.Connection) error { return c.GoAway(0, http2.ErrCodeNo) }}, good)
	staying := scripted(t, registry, good)
	client := testv1.NewEchoServiceClient(newBus(t, registry))
	const calls = 200
	replies := 0
	for range calls {
		_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
		if err == nil {
			replies++
		} else if framework.OutcomeOf(err) != framework.Unknown || status.Code(err) != codes.Unavailable {
			t.Errorf("a call = %v, want a reply or an unknown outcome", err)
		}
	}
	if replies < calls*9/10 || arrived(leaving, staying) > calls || len(staying.Requests()) < replies {
		t.Errorf("%d calls had %d replies; %d and %d requests arrived", calls, replies, len(leaving.Requests()), len(staying.Requests()))
	}
}

func TestARefusedCallIsRetriedElsewhereIfItsCauseMayBeAbsentThere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script  peer.Script
		again   bool
		outcome framework.Outcome
	}{
		"draining":                          {refusal(codes.FailedPrecondition, "DRAINING", "refused"), true, framework.Refused},
		"shed":                              {refusal(codes.ResourceExhausted, "", "refused"), true, framework.Refused},
		"an expired session":                {refusal(codes.FailedPrecondition, "SESSION_EXPIRED", "refused"), true, framework.Refused},
		"not permitted":                     {refusal(codes.PermissionDenied, "", "refused"), false, framework.Refused},
		"a forgotten session":               {refusal(codes.FailedPrecondition, "SESSION_EXPIRED", ""), true, framework.Refused},
		"a duplicate":                       {refusal(codes.FailedPrecondition, "DUPLICATE_CALL", ""), false, framework.Unknown},
		"the wrong instance":                {refusal(codes.FailedPrecondition, "WRONG_INSTANCE", ""), false, framework.Unknown},
		"too many sessions":                 {refusal(codes.FailedPrecondition, "SESSION_LIMIT", ""), false, framework.Unknown},
		"the handler's error":               {refusal(codes.NotFound, "", "executed"), false, framework.Executed},
		"a session expired for the handler": {refusal(codes.FailedPrecondition, "SESSION_EXPIRED", "executed"), false, framework.Executed},
		"the handler's overload":            {refusal(codes.ResourceExhausted, "", "executed"), false, framework.Executed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			refusing := scripted(t, registry, test.script)
			client := testv1.NewEchoServiceClient(newBus(t, registry))
			_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
			want := 1
			if test.again {
				want = 4
			}
			if got := arrived(refusing); got != want || framework.OutcomeOf(err) != test.outcome {
				t.Errorf("%d requests arrived, want %d; the error is %v", got, want, err)
			}
			identities := make(map[string]bool)
			sessions := make(map[string]bool)
			for _, request := range refusing.Requests() {
				identities[request.Identity()] = true
				sessions[strings.Split(request.Identity(), ".")[1]] = true
			}
			if len(identities) != want {
				t.Errorf("%d requests had %d identities", want, len(identities))
			}
			if renewed := len(sessions) > 1; renewed != strings.HasSuffix(name, " session") {
				t.Errorf("the requests had %d sessions", len(sessions))
			}

			before := arrived(refusing)
			helping := scripted(t, registry, good)
			never := testv1.NewEchoServiceClient(newBus(t, registry, framework.Retry(framework.RetryNone)))
			for range 4 {
				_, _ = never.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
			}
			if got := arrived(refusing, helping) - before; got != 4 {
				t.Errorf("without retries 4 calls made %d requests", got)
			}
		})
	}
}

func TestACallThatMayRunAgainIsRetriedTwiceAtMost(t *testing.T) {
	t.Parallel()
	breaking := peer.Always(peer.Read(), peer.Execute(), peer.Abort())
	registry := memory.New()
	broken := []*peer.Peer{scripted(t, registry, breaking), scripted(t, registry, breaking), scripted(t, registry, breaking), scripted(t, registry, breaking)}
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}) // NO_SIDE_EFFECTS
	if got := arrived(broken...); framework.OutcomeOf(err) != framework.Unknown || got < 1 || got > 3 {
		t.Errorf("%d requests arrived, want 3 at most; the error is %v", got, err)
	}
	before := arrived(broken...)
	off := newBus(t, registry, framework.Retry(framework.RetryNotRun))
	ready(t, off, "test.echo")
	_, err = testv1.NewEchoServiceClient(off).Echo(t.Context(), &testv1.EchoRequest{})
	if got := arrived(broken...) - before; got > 1 || framework.OutcomeOf(err) == framework.Executed {
		t.Errorf("without that retry %d requests arrived; the error is %v", got, err)
	}
}

func TestRetriesAreBoundedByRecentReplies(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	busy := scripted(t, registry, peer.Always(peer.Read(), peer.Fail(codes.Unavailable, "busy")))
	client := testv1.NewEchoServiceClient(newBus(t, registry))
	const calls = 100
	for range calls {
		if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err == nil {
			t.Fatal("a busy peer answered")
		}
	}
	// A bus that has no reply yet may retry 10 calls.
	if got := arrived(busy); got != calls+10 {
		t.Errorf("%d calls without a reply made %d requests, want %d", calls, got, calls+10)
	}
}

func TestACallerCannotForgeAnIdentity(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	p := scripted(t, registry, good)
	bus := newBus(t, registry, framework.DialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(metadata.AppendToOutgoingContext(ctx, "onecall-call", "forged in the chain"), method, req, reply, conn, opts...)
		})))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "onecall-call", "forged", "onecall-other", "x", "own", "kept")
	if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(ctx, &testv1.EchoSoonRequest{}); err != nil {
		t.Fatal(err)
	}
	request := p.Requests()[0]
	if _, err := atmostonce.ParseIdentity(request.Identity()); err != nil || len(request.Metadata.Get("onecall-other")) != 0 || len(request.Metadata.Get("own")) != 1 {
		t.Errorf("what arrived is %v (%v), want one true identity and the caller's own metadata", request.Metadata, err)
	}
}

// retried repeats calls on a bus, as a wrapper with a retry interceptor does.
type retried struct {
	*framework.Bus

	interceptor grpc.UnaryClientInterceptor
}

func (r retried) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return r.interceptor(ctx, method, args, reply, nil,
		func(ctx context.Context, method string, req, reply any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
			return r.Bus.Invoke(ctx, method, req, reply, opts...)
		}, opts...)
}

func TestARetryInterceptorAroundTheBusIsAConfigurationError(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	p := scripted(t, registry, peer.Always(peer.Read(), peer.Execute(), peer.Fail(codes.Unavailable, "busy")))
	around := retried{newBus(t, registry), retry.UnaryClientInterceptor(retry.WithMax(5), retry.WithBackoff(retry.BackoffLinear(time.Millisecond)), retry.WithCodes(codes.Unavailable))}
	_, err := testv1.NewEchoServiceClient(around).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "a retry interceptor retries this call outside of the bus") {
		t.Errorf("the call = %v, want an error that names the retry interceptor", err)
	}
	if got := arrived(p); got != 1 {
		t.Errorf("%d requests arrived, want 1", got)
	}
}

func TestAProcessThatTakesOverAnAddressIsAnotherInstance(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	p := scripted(t, registry, good)
	client := testv1.NewEchoServiceClient(newBus(t, registry))
	call := func() string {
		t.Helper()
		if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			t.Fatal(err)
		}
		requests := p.Requests()
		return requests[len(requests)-1].Identity()[:22]
	}
	first := call()
	successor := discovery.NewIncarnation()
	if _, err := registry.Register(discovery.Instance{API: "test.echo", Address: p.Address(), Incarnation: successor, State: discovery.Serving}); err != nil {
		t.Fatal(err)
	}
	if second := call(); second != successor.String() || second == first {
		t.Errorf("the call is bound to %s, want the successor %s", second, successor)
	}
	if got := p.Connections(); got != 2 {
		t.Errorf("there were %d connections, want one to each", got)
	}
}

func TestAPlainServerIsCalledWithoutAnIdentity(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := peer.Serve(listener, peer.Config{}, peer.InTurn(
		[]peer.Step{peer.Read(), peer.Answer(&testv1.EchoSoonResponse{})},
		[]peer.Step{peer.Read(), peer.Execute(), peer.Reset(http2.ErrCodeRefusedStream)}))
	defer p.Close()
	registry := memory.New()
	if _, err := registry.Register(discovery.Instance{API: "test.echo", Address: p.Address()}); err != nil {
		t.Fatal(err)
	}
	client := testv1.NewEchoServiceClient(newBus(t, registry))
	if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err = client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	if framework.OutcomeOf(err) != framework.Unknown || arrived(p) != 2 {
		t.Errorf("%d requests arrived, want 2; the error is %v", arrived(p), err)
	}
	if identity := p.Requests()[0].Identity(); identity != "" {
		t.Errorf("a plain server was sent the identity %q", identity)
	}
}

func TestErrorsOfStreamsSayWhetherTheyRan(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	p := scripted(t, registry, peer.Always(peer.Execute(), peer.AnswerHeaders(), peer.Abort()))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	stream, err := testv1.NewEchoServiceClient(bus).Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	if framework.OutcomeOf(err) != framework.Unknown || !strings.HasPrefix(err.Error(), "test.echo.chat: ") || arrived(p) != 1 {
		t.Errorf("%d requests arrived, want 1; the stream ended with %v", arrived(p), err)
	}
	_, err = testv1.NewEchoServiceClient(newBus(t, memory.New())).Chat(t.Context())
	if framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a stream to nobody = %v, whose outcome is %v", err, framework.OutcomeOf(err))
	}
}

func TestNumbersAreNotReusedAfterABusWasIdle(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	p := scripted(t, registry, good)
	var open atomic.Int64 // connections, which grpc-go closes when the bus is idle
	client := testv1.NewEchoServiceClient(newBus(t, registry, framework.DialOptions(
		grpc.WithIdleTimeout(time.Millisecond),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			open.Add(1)
			return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { open.Add(-1) })}, nil
		}),
	)))
	for range 10 {
		var callers sync.WaitGroup
		for range 4 {
			callers.Go(func() {
				if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		eventually.True(t, "the bus is idle", func() bool { return open.Load() == 0 })
	}
	seen := make(map[string]bool)
	for _, request := range p.Requests() {
		if seen[request.Identity()] {
			t.Errorf("the identity %s was sent twice", request.Identity())
		}
		seen[request.Identity()] = true
	}
	if len(seen) != 40 {
		t.Errorf("%d identities arrived, want 40", len(seen))
	}
}

// countedConn calls closed when it is closed.
type countedConn struct {
	net.Conn

	closed func()
}

func (c *countedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

func TestABusThatWasIdleForDaysCallsUnderANewSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sessions []string
		bus, _, _ := inMemory(t, &echo{}, framework.ServerOptions(grpc.StatsHandler(tagged{&sessions})))
		client := testv1.NewEchoServiceClient(bus)
		for _, idle := range []time.Duration{0, time.Hour, 48 * time.Hour} {
			time.Sleep(idle) // of fake time
			if _, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
				t.Errorf("a call after %v = %v", idle, err)
			}
		}
		// The third is refused under the session of the others and then runs.
		if len(sessions) != 4 || sessions[0] != sessions[2] || sessions[2] == sessions[3] {
			t.Errorf("3 calls arrived %d times, under the sessions %v, want another for the last", len(sessions), sessions)
		}
	})
}

func TestOutcomeOfErrorsThatAreNotOfACall(t *testing.T) {
	t.Parallel()
	if got := framework.OutcomeOf(nil); got != framework.Executed {
		t.Errorf("the outcome of no error is %v", got)
	}
	if got := framework.OutcomeOf(context.Canceled); got != framework.Unknown {
		t.Errorf("the outcome of another's error is %v", got)
	}
	if got := framework.OutcomeOf(framework.ErrClosed); got != framework.NotSent {
		t.Errorf("the outcome of ErrClosed is %v", got)
	}
}
