package server_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/ledgertest"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

const (
	refused  = onecallv1.SettleResponse_STATE_REFUSED
	running  = onecallv1.SettleResponse_STATE_RUNNING
	executed = onecallv1.SettleResponse_STATE_EXECUTED
	unknown  = onecallv1.SettleResponse_STATE_UNKNOWN
)

// always keeps all replies.
func always(string) bool { return true }

// question is what a caller asks a server.
type question struct {
	by     []string // the values of the asker's own identity
	call   string
	method string
	wait   time.Duration
	age    time.Duration // less than zero: it says none
	md     metadata.MD   // further metadata
}

// about asks for a unary call, on behalf of its caller.
func about(identity atmostonce.Identity) question {
	return question{by: []string{identity.Value()}, call: identity.Value(), method: testv1.EchoService_Echo_FullMethodName}
}

func (f *fixture) ask(q question) (*onecallv1.SettleResponse, error) {
	ctx := metadata.NewOutgoingContext(f.t.Context(), metadata.Join(metadata.MD{atmostonce.CallKey: q.by}, q.md))
	request := &onecallv1.SettleRequest{Call: q.call, Method: q.method, Wait: durationpb.New(q.wait), Age: durationpb.New(q.age)}
	if q.age < 0 {
		request.Age = nil
	}
	return onecallv1.NewCallsClient(f.conn).Settle(ctx, request)
}

// settle asks, and fails unless the answer has a state.
func (f *fixture) settle(t *testing.T, q question, want onecallv1.SettleResponse_State) *onecallv1.SettleResponse {
	t.Helper()
	answer, err := f.ask(q)
	if err != nil {
		t.Fatalf("Settle: %v", err)
	}
	if answer.GetState() != want {
		t.Fatalf("the answer is %v, want %v", answer, want)
	}
	if want != executed && !proto.Equal(answer, &onecallv1.SettleResponse{State: want}) {
		t.Fatalf("the answer is %v, want nothing but its state", answer)
	}
	return answer
}

// wantEnd fails unless an answer has a status, and a reply with a text.
func wantEnd(t *testing.T, answer *onecallv1.SettleResponse, code codes.Code, text string) {
	t.Helper()
	st, reply := new(spb.Status), new(testv1.EchoResponse)
	if err := errors.Join(proto.Unmarshal(answer.GetStatus(), st), proto.Unmarshal(answer.GetReply(), reply)); err != nil {
		t.Fatal(err)
	}
	if answer.Status == nil || st.GetCode() != int32(code) || (answer.Reply == nil) != (code != codes.OK) || reply.GetText() != text {
		t.Errorf("the answer is %.200v, want the status %v and the text %.20q", answer, code, text)
	}
}

func TestALostReplyIsReturned(t *testing.T) {
	t.Parallel()
	for title, text := range map[string]string{"a reply": "first", "an empty reply": "", "a MiB": strings.Repeat("x", 1<<20)} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			f := serve(t, server.Config{KeepsReply: always}, &echo{text: text}, inner{})
			call := f.identity(1)
			if _, err := f.unary(call.Value()); err != nil {
				t.Fatal(err)
			}
			for range 2 { // it may be asked again
				wantEnd(t, f.settle(t, about(call), executed), codes.OK, text)
			}
			f.wantRuns(t, 1)
		})
	}
}

func TestALostErrorIsReturned(t *testing.T) {
	t.Parallel()
	failure, err := status.New(codes.NotFound, "no such user").WithDetails(&errdetails.ErrorInfo{Reason: "NONE"})
	if err != nil {
		t.Fatal(err)
	}
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		for title, keeps := range map[string]func(string) bool{"kept": always, "not kept": nil} {
			f := serve(t, server.Config{KeepsReply: keeps}, &echo{do: func(context.Context) error { return failure.Err() }}, inner{})
			identity := f.identity(1)
			if _, err := call(f, identity.Value()); status.Code(err) != codes.NotFound {
				t.Fatal(err)
			}
			asked := about(identity)
			if strings.HasSuffix(t.Name(), "stream") {
				asked.method = testv1.EchoService_Chat_FullMethodName
			}
			answer, got := f.settle(t, asked, executed), new(spb.Status)
			if err := proto.Unmarshal(answer.GetStatus(), got); err != nil {
				t.Fatal(err)
			}
			want := failure.Proto()
			if keeps == nil {
				want = &spb.Status{Code: int32(codes.NotFound)}
			}
			if answer.Reply != nil || !proto.Equal(got, want) {
				t.Errorf("%s: the answer is %v with %v, want %v", title, answer, got, want)
			}
		}
	})
}

func TestAReplyThatWasNotKeptIsNotAnEmptyOne(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{}, &echo{text: "secret"}, inner{})
	call := f.identity(1)
	if _, err := f.unary(call.Value()); err != nil {
		t.Fatal(err)
	}
	if answer := f.settle(t, about(call), executed); answer.Status == nil || len(answer.GetStatus()) != 0 || answer.Reply != nil {
		t.Errorf("the answer is %v, want OK and no reply", answer)
	}
}

func TestAStreamIsSettledWithoutAReply(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{KeepsReply: always}, &echo{text: "x"}, inner{})
	call := f.identity(1)
	if _, err := f.stream(call.Value()); err != nil {
		t.Fatal(err)
	}
	asked := about(call)
	asked.method = testv1.EchoService_Chat_FullMethodName
	if answer := f.settle(t, asked, executed); answer.Status == nil || len(answer.GetStatus()) != 0 || answer.Reply != nil {
		t.Errorf("the answer is %v, want OK and no reply", answer)
	}
}

// TestACallThatDidNotArriveNeverRuns settles the first call that a session makes, and
// later ones.
func TestACallThatDidNotArriveNeverRuns(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		f := serve(t, server.Config{KeepsReply: always}, &echo{}, inner{})
		identity := f.identity(1)
		f.settle(t, about(identity), refused)
		trailer, err := call(f, identity.Value())
		f.wantRefusal(t, err, trailer, atmostonce.DuplicateCall, "")
		f.settle(t, about(identity), refused)
		f.wantRuns(t, 0)
		identity.Seq = 3
		if _, err := call(f, identity.Value()); err != nil {
			t.Fatal(err)
		}
		identity.Seq = 2 // below the highest
		f.settle(t, about(identity), refused)
		if _, err := call(f, identity.Value()); atmostonce.ReasonOf(err) != atmostonce.DuplicateCall {
			t.Errorf("a copy: %v", err)
		}
		f.wantRuns(t, 1)
	})
}

// TestACallThatWasRefusedIsSettledAsRefused refuses calls before their handlers.
func TestACallThatWasRefusedIsSettledAsRefused(t *testing.T) {
	t.Parallel()
	limit := func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.ResourceExhausted, "too many")
	}
	for title, drains := range map[string]bool{"by an interceptor": false, "while the server drains": true} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			within := inner{unary: limit}
			if drains {
				within = inner{}
			}
			f := serve(t, server.Config{KeepsReply: always}, &echo{}, within)
			if drains {
				f.server.Drain()
			}
			call := f.identity(1)
			if _, err := f.unary(call.Value()); err == nil {
				t.Fatal("the call was served")
			}
			f.settle(t, about(call), refused)
			call.Seq = 2
			f.settle(t, about(call), refused) // it did not arrive, also while the server drains
			f.wantRuns(t, 0)
		})
	}
}

func TestAnInterceptorsReplyIsReturned(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{KeepsReply: always}, &echo{}, inner{
		unary: func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return &testv1.EchoResponse{Text: "cached"}, nil
		},
	})
	call := f.identity(1)
	if _, err := f.unary(call.Value()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, f.settle(t, about(call), executed), codes.OK, "cached")
	f.wantRuns(t, 0)
}

// held serves handlers that run until the test lets go of them.
func held(t *testing.T, config server.Config, text string) (f *fixture, started, letGo chan struct{}) {
	t.Helper()
	started, letGo = make(chan struct{}, 16), make(chan struct{})
	return serve(t, config, &echo{text: text, do: func(context.Context) error {
		started <- struct{}{}
		<-letGo
		return nil
	}}, inner{}), started, letGo
}

// TestARunningCallIsWaitedFor has a caller stop waiting while the handler runs, whose reply
// is larger than a session may keep.
func TestARunningCallIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		text := strings.Repeat("x", 1<<20)
		f, started, letGo := held(t, server.Config{KeepsReply: always}, text)
		call := f.identity(1)
		ctx, cancel := context.WithTimeout(identified(t.Context(), []string{call.Value()}), time.Second)
		defer cancel()
		if _, err := testv1.NewEchoServiceClient(f.conn).Echo(ctx, &testv1.EchoRequest{}); status.Code(err) != codes.DeadlineExceeded {
			t.Fatal(err)
		}
		<-started
		asked := about(call)
		f.settle(t, asked, running)
		asked.wait = time.Minute
		begun := time.Now()
		f.settle(t, asked, running)
		if waited := time.Since(begun); waited != time.Minute {
			t.Errorf("the server waited %v", waited)
		}
		time.AfterFunc(10*time.Second, func() { close(letGo) })
		begun = time.Now()
		wantEnd(t, f.settle(t, asked, executed), codes.OK, text)
		if waited := time.Since(begun); waited != 10*time.Second {
			t.Errorf("the server waited %v", waited)
		}
		asked.wait = 0
		time.Sleep(5 * time.Minute) // far longer than a session is remembered that makes no calls
		wantEnd(t, f.settle(t, asked, executed), codes.OK, text)
		time.Sleep(6 * time.Minute)
		f.settle(t, asked, unknown)
		f.wantRuns(t, 1)
		if kept := f.server.Stats().Kept; kept != 0 {
			t.Errorf("%d bytes are kept", kept)
		}
	})
}

// TestACallThatNobodyWaitsForIsKept has the context of a call end while its handler
// runs, and many other calls end before it is settled.
func TestACallThatNobodyWaitsForIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, started, letGo := held(t, server.Config{KeepsReply: always}, "first")
		call := f.identity(1)
		ctx, cancel := context.WithCancel(identified(t.Context(), []string{call.Value()}))
		go func() {
			<-started
			cancel()
		}()
		if _, err := testv1.NewEchoServiceClient(f.conn).Echo(ctx, &testv1.EchoRequest{}); status.Code(err) != codes.Canceled {
			t.Fatal(err)
		}
		synctest.Wait() // the server has heard of it
		close(letGo)
		for call.Seq < 3000 {
			call.Seq++
			if _, err := f.unary(call.Value()); err != nil {
				t.Fatal(err)
			}
			select {
			case <-started:
			default:
			}
		}
		call.Seq = 1
		wantEnd(t, f.settle(t, about(call), executed), codes.OK, "first")
		call.Seq = 2 // of which nothing is known
		f.settle(t, about(call), unknown)
	})
}

// TestWhatIsForgottenIsUnknown is of sessions that were idle, and of numbers far below.
func TestWhatIsForgottenIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := serve(t, server.Config{KeepsReply: always}, &echo{}, inner{})
		call := f.identity(1)
		do := func(seq uint64) {
			t.Helper()
			call.Seq = seq
			if _, err := f.unary(call.Value()); err != nil {
				t.Fatal(err)
			}
		}
		do(1)
		do(3)
		time.Sleep(11 * time.Second)
		if answer := f.settle(t, about(call), executed); answer.Status == nil || answer.Reply != nil {
			t.Errorf("after 11 s: %v, want that its reply was not kept", answer)
		}
		time.Sleep(2 * time.Minute)
		for seq := range uint64(3) { // 2 was not marked, but no longer known not to be
			call.Seq = seq + 1
			f.settle(t, about(call), unknown)
		}
		for seq := range uint64(2000) {
			do(4 + seq)
		}
		for _, seq := range []uint64{1, 2, 3, 4, 900} {
			call.Seq = seq
			f.settle(t, about(call), unknown)
		}
		time.Sleep(11 * time.Second) // no reply is kept any more
		do(12_000)
		for _, seq := range []uint64{1, 2000, 2003, 2004, 3000, 3808} { // some were not marked
			call.Seq = seq
			f.settle(t, about(call), unknown)
		}
		f.wantRuns(t, 2003)
	})
}

// TestStrangersLearnAndMarkNothing asks for a call that ran, one that runs, and one that
// did not arrive.
func TestStrangersLearnAndMarkNothing(t *testing.T) {
	t.Parallel()
	named := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return handler(server.WithPrincipal(ctx, strings.Join(metadata.ValueFromIncomingContext(ctx, "name"), "")), req)
	}
	for title, change := range map[string]func(f *fixture, q *question){
		"another session":           func(f *fixture, q *question) { q.by = []string{f.identity(1).Value()} },
		"no identity":               func(_ *fixture, q *question) { q.by = nil },
		"two identities":            func(_ *fixture, q *question) { q.by = append(q.by, q.by...) },
		"a malformed identity":      func(_ *fixture, q *question) { q.by[0] += "x" },
		"a malformed call":          func(_ *fixture, q *question) { q.call += "x" },
		"an empty call":             func(_ *fixture, q *question) { q.call = "" },
		"another principal":         func(_ *fixture, q *question) { q.md = metadata.Pairs("name", "other") },
		"another incarnation":       func(f *fixture, q *question) { q.call, q.by[0] = f.elsewhere(q.call), f.elsewhere(q.call) },
		"the call of another one":   func(f *fixture, q *question) { q.call = f.elsewhere(q.call) },
		"bound to another instance": func(f *fixture, q *question) { q.by[0] = f.elsewhere(q.call) },
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			letGo := make(chan struct{})
			started := make(chan struct{}, 1)
			f := serve(t, server.Config{KeepsReply: always, BeforeUnary: named}, &echo{do: func(ctx context.Context) error {
				if len(metadata.ValueFromIncomingContext(ctx, "hold")) > 0 {
					started <- struct{}{}
					<-letGo
				}
				return nil
			}}, inner{})
			t.Cleanup(func() { close(letGo) })
			own := metadata.Pairs("name", "one")
			identity := f.identity(0)
			call := func(seq uint64, md metadata.MD) error {
				identity.Seq = seq
				ctx := metadata.NewOutgoingContext(t.Context(), metadata.Join(own, md, metadata.Pairs(atmostonce.CallKey, identity.Value())))
				_, err := testv1.NewEchoServiceClient(f.conn).Echo(ctx, &testv1.EchoRequest{})
				return err
			}
			if err := call(1, nil); err != nil {
				t.Fatal(err)
			}
			go func() { _ = call(2, metadata.Pairs("hold", "")) }()
			<-started
			sessions := f.server.Stats().Sessions
			for seq := range uint64(3) {
				asked := identity
				asked.Seq = seq + 1
				q := about(asked)
				q.md = own
				change(f, &q)
				f.settle(t, q, unknown)
			}
			if got := f.server.Stats().Sessions; got != sessions {
				t.Errorf("there are %d sessions, want %d", got, sessions)
			}
			if err := call(3, nil); err != nil {
				t.Errorf("the call that did not arrive is refused: %v", err)
			}
		})
	}
}

// TestALostReplyOfANamedPrincipalIsReturned has authentication name the caller.
func TestALostReplyOfANamedPrincipalIsReturned(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{KeepsReply: always, BeforeUnary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return handler(server.WithPrincipal(ctx, "one"), req)
	}}, &echo{text: "x"}, inner{})
	call := f.identity(1)
	if _, err := f.unary(call.Value()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, f.settle(t, about(call), executed), codes.OK, "x")
	call.Seq = 2
	f.settle(t, about(call), refused)
}

// elsewhere returns a call's identity with another incarnation.
func (f *fixture) elsewhere(call string) string {
	identity, err := atmostonce.ParseIdentity(call)
	if err != nil {
		f.t.Error(err)
	}
	identity.Incarnation = discovery.NewIncarnation()
	return identity.Value()
}

func TestACallOfAnotherMethodIsUnknown(t *testing.T) {
	t.Parallel()
	f, started, letGo := held(t, server.Config{KeepsReply: always}, "x")
	call := f.identity(1)
	done := make(chan error, 1)
	go func() { _, err := f.unary(call.Value()); done <- err }()
	<-started
	asked := about(call)
	asked.method = testv1.EchoService_EchoSoon_FullMethodName
	f.settle(t, asked, unknown) // while it runs
	close(letGo)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.settle(t, asked, unknown)
	f.settle(t, about(call), executed)
}

// TestACallOfAnExemptServiceIsUnknown is of one whose calls are not marked.
func TestACallOfAnExemptServiceIsUnknown(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{KeepsReply: always}, &echo{}, inner{})
	asked := about(f.identity(1))
	asked.method = grpc_health_v1.Health_Check_FullMethodName
	f.settle(t, asked, unknown)
	if _, err := f.unary(f.identity(1).Value()); err != nil { // the number is not marked
		t.Error(err)
	}
}

func TestWhoIsNotAuthenticatedIsNotAnswered(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{BeforeUnary: func(_ context.Context, _ any, info *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.Unauthenticated, info.FullMethod)
	}}, &echo{}, inner{})
	if _, err := f.ask(about(f.identity(1))); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "/onecall.v1.Calls/Settle") {
		t.Errorf("error = %v", err)
	}
	if stats := f.server.Stats(); stats.Sessions != 0 || stats.Admitted != 0 {
		t.Errorf("Stats = %+v", stats)
	}
}

// TestNoInterceptorOfTheServerRunsForASettle has one that refuses all calls.
func TestNoInterceptorOfTheServerRunsForASettle(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{RequireIdentity: true}, &echo{}, inner{unary: func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.Aborted, "no")
	}})
	f.settle(t, about(f.identity(1)), refused)
}

// TestAMessageThatItsHandlerChangesIsKeptAsItWasSent is for the race detector too.
func TestAMessageThatItsHandlerChangesIsKeptAsItWasSent(t *testing.T) {
	t.Parallel()
	shared := new(testv1.EchoResponse)
	f := serve(t, server.Config{KeepsReply: always}, &echo{}, inner{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			_, err := handler(ctx, req)
			shared.Text += "x"
			return shared, err
		},
	})
	call := f.identity(0)
	for range 3 {
		call.Seq++
		if _, err := f.unary(call.Value()); err != nil {
			t.Fatal(err)
		}
	}
	call.Seq = 1
	wantEnd(t, f.settle(t, about(call), executed), codes.OK, "x")
}

// TestOneTruthOfSettlesAndACopy has two callers ask while a copy of the call arrives.
func TestOneTruthOfSettlesAndACopy(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{KeepsReply: always}, &echo{text: "x"}, inner{})
	identity := f.identity(0)
	var refusals, runs int
	for range 300 {
		identity.Seq++
		ran := f.echo.runs.Load()
		var served atomic.Bool
		var answers [2]onecallv1.SettleResponse_State
		var group sync.WaitGroup
		call := identity
		group.Go(func() {
			_, err := f.unary(call.Value())
			served.Store(err == nil)
			if err != nil && atmostonce.ReasonOf(err) != atmostonce.DuplicateCall {
				t.Error(err)
			}
		})
		for i := range answers {
			group.Go(func() {
				asked := about(call)
				asked.wait = time.Minute
				answer, err := f.ask(asked)
				if err != nil {
					t.Error(err)
				}
				answers[i] = answer.GetState()
			})
		}
		group.Wait()
		want := refused
		if served.Load() {
			want = executed
			runs++
		} else {
			refusals++
		}
		if answers[0] != want || answers[1] != want {
			t.Fatalf("the answers are %v, and the call was served: %t", answers, served.Load())
		}
		if ran = f.echo.runs.Load() - ran; ran != 0 && want == refused || ran != 1 && want == executed {
			t.Fatalf("the handler ran %d times, and the answers are %v", ran, answers)
		}
	}
	t.Logf("%d calls were refused, %d ran", refusals, runs)
}

// TestWithALedgerAnUnmarkedCallIsTakenFromAllInstances is of a ledger that two instances
// share.
func TestWithALedgerAnUnmarkedCallIsTakenFromAllInstances(t *testing.T) {
	t.Parallel()
	ledger := new(ledgertest.Memory)
	one := serve(t, server.Config{KeepsReply: always, Ledger: ledger}, &echo{}, inner{})
	two := serve(t, server.Config{KeepsReply: always, Ledger: ledger}, &echo{}, inner{})
	call := one.identity(1)
	one.settle(t, about(call), refused)
	one.settle(t, about(call), refused)
	if _, err := two.unary(call.Value()); atmostonce.ReasonOf(err) != atmostonce.DuplicateCall {
		t.Errorf("a copy at another instance: %v", err)
	}
	two.wantRuns(t, 0)

	call.Seq = 2 // runs at another instance first
	if _, err := two.unary(call.Value()); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*fixture{one, two, one} {
		asked := about(call)
		asked.wait = time.Minute
		if answer := f.settle(t, asked, executed); answer.Status == nil || len(answer.GetStatus()) != 0 || answer.Reply != nil {
			t.Errorf("the answer is %v, want OK and no reply", answer)
		}
	}
	if _, err := one.unary(call.Value()); atmostonce.ReasonOf(err) != atmostonce.DuplicateCall {
		t.Errorf("a copy: %v", err)
	}

	call.Seq = 3
	if _, err := one.unary(call.Value()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, one.settle(t, about(call), executed), codes.OK, "")
}

// brokenLedger is unavailable.
type brokenLedger struct{}

func (brokenLedger) Begin(context.Context, string) (bool, error) {
	return false, errors.New("unavailable")
}

// brokenSettling is one that would remember what became of calls.
type brokenSettling struct{ ledgertest.Memory }

func (*brokenSettling) Begin(context.Context, string) (bool, error) {
	return false, errors.New("unavailable")
}

func (*brokenSettling) Take(context.Context, string, atmostonce.LedgerEntry) (bool, error) {
	return false, errors.New("unavailable")
}

func (*brokenSettling) Find(context.Context, string) (atmostonce.LedgerEntry, bool, error) {
	return atmostonce.LedgerEntry{}, false, errors.New("etcd is at 10.0.0.9")
}

// TestWithoutItsLedgerNothingIsRefused is of calls whose copies may run elsewhere.
func TestWithoutItsLedgerNothingIsRefused(t *testing.T) {
	t.Parallel()
	for title, ledger := range map[string]atmostonce.Ledger{"of keys": brokenLedger{}, "of ends too": new(brokenSettling)} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			f := serve(t, server.Config{KeepsReply: always, Ledger: ledger}, &echo{}, inner{})
			wantNothing := func(call atmostonce.Identity) {
				t.Helper()
				answer, err := f.ask(about(call))
				again := status.Code(err) == codes.Unavailable && !strings.Contains(err.Error(), "10.0.0.9")
				if title == "of keys" && answer.GetState() != unknown || title == "of ends too" && !again {
					t.Errorf("the answer is %v, %v", answer, err)
				}
			}
			call := f.identity(1)
			wantNothing(call)
			call.Seq = 2
			if _, err := f.unary(call.Value()); atmostonce.ReasonOf(err) != atmostonce.LedgerUnavailable {
				t.Fatal(err)
			}
			wantNothing(call)
			f.server.Drain()
			call.Seq = 3
			if _, err := f.unary(call.Value()); atmostonce.ReasonOf(err) != atmostonce.LedgerUnavailable {
				t.Fatal(err)
			}
			wantNothing(call)
		})
	}
}

// keysOnly is a ledger that does not remember what became of calls.
type keysOnly struct{ atmostonce.Ledger }

// TestALedgerOfKeysSettlesNothing is of one that may have forgotten a key at any time.
func TestALedgerOfKeysSettlesNothing(t *testing.T) {
	t.Parallel()
	ledger := keysOnly{new(ledgertest.Memory)}
	one := serve(t, server.Config{KeepsReply: always, Ledger: ledger}, &echo{}, inner{})
	two := serve(t, server.Config{KeepsReply: always, Ledger: ledger}, &echo{}, inner{})
	call := one.identity(1)
	one.settle(t, about(call), unknown) // it did not arrive
	if _, err := one.unary(call.Value()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, one.settle(t, about(call), executed), codes.OK, "")
	two.settle(t, about(call), unknown)
}

// TestAnyInstanceAnswersForACallOfTheLedger asks another instance than that which ran the
// calls, also after that one has ended.
func TestAnyInstanceAnswersForACallOfTheLedger(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		ledger := new(ledgertest.Memory)
		named := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(server.WithPrincipal(ctx, strings.Join(metadata.ValueFromIncomingContext(ctx, "name"), "")), req)
		}
		started, letGo := make(chan struct{}, 1), make(chan struct{})
		one := serve(t, server.Config{KeepsReply: always, Ledger: ledger}, &echo{do: func(context.Context) error {
			started <- struct{}{}
			<-letGo
			return status.Error(codes.NotFound, "no such user")
		}}, inner{})
		two := serve(t, server.Config{KeepsReply: always, Ledger: ledger, BeforeUnary: named}, &echo{}, inner{})
		identity := one.identity(1)
		asked := about(identity)
		if strings.HasSuffix(t.Name(), "stream") {
			asked.method = testv1.EchoService_Chat_FullMethodName
		}
		ended := make(chan error, 1)
		go func() { _, err := call(one, identity.Value()); ended <- err }()
		<-started
		other, strange := asked, asked
		other.method, strange.md = testv1.EchoService_EchoSoon_FullMethodName, metadata.Pairs("name", "other")
		two.settle(t, asked, running)
		two.settle(t, other, unknown)
		two.settle(t, strange, unknown)
		close(letGo)
		if err := <-ended; status.Code(err) != codes.NotFound {
			t.Fatal(err)
		}
		one.server.Close() // which writes what waits
		wantCode := func(answer *onecallv1.SettleResponse, want codes.Code) {
			t.Helper()
			got := new(spb.Status)
			if err := proto.Unmarshal(answer.GetStatus(), got); err != nil || !proto.Equal(got, &spb.Status{Code: int32(want)}) || answer.Reply != nil {
				t.Errorf("the answer is %v with %v (%v), want %v alone", answer, got, err, want)
			}
		}
		wantCode(two.settle(t, asked, executed), codes.NotFound)
		two.settle(t, other, unknown)
		two.settle(t, strange, unknown)
		if _, err := call(two, identity.Value()); atmostonce.ReasonOf(err) != atmostonce.DuplicateCall {
			t.Errorf("a copy: %v", err)
		}
		two.wantRuns(t, 0)
		if stats := two.server.Stats(); stats.Settled != (server.SettleStats{Running: 1, Executed: 1, Unknown: 4}) || stats.Unrecorded != 0 {
			t.Errorf("Stats = %+v", stats)
		}
	})
}

// forgetful is a ledger that remembers keys for an hour.
type forgetful struct{ ledgertest.Memory }

func (*forgetful) Retention() time.Duration { return time.Hour }

// TestWhatALedgerMayHaveForgottenIsUnknown is of calls that the ledger does not have.
func TestWhatALedgerMayHaveForgottenIsUnknown(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{KeepsReply: always, Ledger: new(forgetful)}, &echo{}, inner{})
	for title, age := range map[string]time.Duration{"it is too old": 31 * time.Minute, "its age is not known": -1} {
		call := f.identity(1)
		asked := about(call)
		asked.age = age
		f.settle(t, asked, unknown)
		if _, err := f.unary(call.Value()); err != nil {
			t.Errorf("%s: a call of which nothing was learned is refused: %v", title, err)
		}
		wantEnd(t, f.settle(t, asked, executed), codes.OK, "")
		call = f.identity(2)
		asked = about(call)
		asked.age = 29 * time.Minute
		f.settle(t, asked, refused)
	}
}

// TestTheEndOfACallOlderThanTheLedgerIsNotRecorded has a handler run for longer than the
// ledger remembers its call.
func TestTheEndOfACallOlderThanTheLedgerIsNotRecorded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, started, letGo := held(t, server.Config{Ledger: new(forgetful)}, "")
		call := f.identity(1)
		done := make(chan error, 1)
		go func() { _, err := f.unary(call.Value()); done <- err }()
		<-started
		time.Sleep(time.Hour)
		close(letGo)
		if err := <-done; err != nil {
			t.Error(err)
		}
		f.server.Close()
		if got := f.server.Stats().Unrecorded; got != 1 {
			t.Errorf("%d ends were not recorded, want 1", got)
		}
	})
}

// TestADrainingInstanceWithALedgerRefusesForAll has a copy reach another instance after
// the first has said that the call never runs.
func TestADrainingInstanceWithALedgerRefusesForAll(t *testing.T) {
	t.Parallel()
	ledger := new(ledgertest.Memory)
	one := serve(t, server.Config{KeepsReply: always, Ledger: ledger}, &echo{}, inner{})
	two := serve(t, server.Config{KeepsReply: always, Ledger: ledger}, &echo{}, inner{})
	one.server.Drain()
	call := one.identity(1)
	trailer, err := one.unary(call.Value())
	one.wantRefusal(t, err, trailer, atmostonce.Draining, atmostonce.OutcomeRefused)
	if _, err := two.unary(call.Value()); atmostonce.ReasonOf(err) != atmostonce.DuplicateCall {
		t.Errorf("a copy at another instance: %v", err)
	}
	two.wantRuns(t, 0)
}

// TestWhatIsSentIsWhatIsKept has an outer function replace results.
func TestWhatIsSentIsWhatIsKept(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{
		KeepsReply: always,
		Around: func(path string, method grpc.MethodHandler) grpc.MethodHandler {
			return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
				if _, err := method(srv, ctx, decode, interceptor); err != nil {
					return nil, status.Error(codes.Internal, "an incident of "+path)
				}
				return &testv1.EchoResponse{Text: "outer"}, nil
			}
		},
		AroundStream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if err := handler(srv, stream); err != nil {
				return status.Error(codes.Internal, "an incident of "+info.FullMethod)
			}
			return nil
		},
	}, &echo{text: "inner"}, inner{})
	call := f.identity(1)
	if _, err := f.unary(call.Value()); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, f.settle(t, about(call), executed), codes.OK, "outer")
	f.echo.do = func(context.Context) error { return errors.New("a secret") }
	for shape, method := range map[string]string{"unary": testv1.EchoService_Echo_FullMethodName, "stream": testv1.EchoService_Chat_FullMethodName} {
		call.Seq++
		if _, err := shapes[shape](f, call.Value()); status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
		asked := about(call)
		asked.method = method
		got := new(spb.Status)
		if err := proto.Unmarshal(f.settle(t, asked, executed).GetStatus(), got); err != nil || got.GetMessage() != "an incident of "+method {
			t.Errorf("the status of a %s is %v (%v)", shape, got, err)
		}
	}
}

// TestACallThatEndsBeforeItsAdmissionDoesNotRun has an interceptor return before what it
// wraps.
func TestACallThatEndsBeforeItsAdmissionDoesNotRun(t *testing.T) {
	t.Parallel()
	left, done := make(chan struct{}), make(chan error, 1)
	f := serve(t, server.Config{KeepsReply: always, BeforeUnary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if info.FullMethod == onecallv1.Calls_Settle_FullMethodName {
			return handler(ctx, req)
		}
		go func() {
			<-left
			_, err := handler(ctx, req)
			done <- err
		}()
		return nil, status.Error(codes.Aborted, "left")
	}}, &echo{}, inner{})
	call := f.identity(1)
	if _, err := f.unary(call.Value()); status.Code(err) != codes.Aborted {
		t.Fatal(err)
	}
	close(left)
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("error = %v, want that the call has ended", err)
	}
	f.settle(t, about(call), unknown)
	f.wantRuns(t, 0)
}

// TestAServiceThatIsNotInstrumentedIsUnknown is of one whose handlers the server does not
// see.
func TestAServiceThatIsNotInstrumentedIsUnknown(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		f := serve(t, server.Config{KeepsReply: always}, &echo{}, inner{uninstrumented: true})
		identity := f.identity(1)
		if _, err := call(f, identity.Value()); err != nil {
			t.Fatal(err)
		}
		f.settle(t, about(identity), unknown)
		f.echo.do = func(context.Context) error { return status.Error(codes.Aborted, "x") }
		identity.Seq = 2
		if _, err := call(f, identity.Value()); err == nil {
			t.Fatal("no error")
		}
		f.settle(t, about(identity), unknown)
	})
}
