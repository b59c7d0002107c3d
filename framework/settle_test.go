package framework_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/peer"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// settling is a scripted instance that can be asked what became of calls.
type settling struct {
	*peer.Peer

	name atomic.Pointer[string] // the incarnation with which it names itself
}

// serveSettling serves an instance of the test API that ends calls with lost, and
// answers questions with answers in turn. The last answer also answers all further
// questions.
func serveSettling(t *testing.T, registry *memory.Registry, lost []peer.Step, answers ...[]peer.Step) *settling {
	t.Helper()
	return serveSettlingWith(t, registry, peer.Always(lost...), answers...)
}

// serveSettlingWith is serveSettling with a script for calls.
func serveSettlingWith(t *testing.T, registry *memory.Registry, calls peer.Script, answers ...[]peer.Step) *settling {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	incarnation := discovery.NewIncarnation()
	s := new(settling)
	name := incarnation.String()
	s.name.Store(&name)
	asked := new(atomic.Int64)
	s.Peer = peer.Serve(listener, peer.Config{Names: func(*peer.Connection) string { return *s.name.Load() }}, func(request peer.Request) []peer.Step {
		if request.Path != onecallv1.Calls_Settle_FullMethodName {
			return calls(request)
		}
		return answers[min(int(asked.Add(1)), len(answers))-1]
	})
	registration, err := registry.Register(discovery.Instance{
		API: "test.echo", Address: s.Address(), Incarnation: incarnation, State: discovery.Serving,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = registration.Close(context.Background())
		_ = s.Close()
	})
	return s
}

// calls returns the requests that were calls, and questions those that were questions.
func (s *settling) calls() []peer.Request {
	return slices.DeleteFunc(s.Requests(), func(r peer.Request) bool { return r.Path == onecallv1.Calls_Settle_FullMethodName })
}

func (s *settling) questions() []peer.Request {
	return slices.DeleteFunc(s.Requests(), func(r peer.Request) bool { return r.Path != onecallv1.Calls_Settle_FullMethodName })
}

// brokenAfter ends a call with its connection after its handler ran.
var brokenAfter = []peer.Step{peer.Read(), peer.Execute(), peer.Abort()}

// answered are the steps of an answer.
func answered(response *onecallv1.SettleResponse) []peer.Step {
	return []peer.Step{peer.Read(), peer.Answer(response)}
}

// executed is the answer of a call that ended with a status, and a reply if it is not
// nil.
func executed(t *testing.T, ended *status.Status, reply proto.Message) []peer.Step {
	t.Helper()
	response := &onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_EXECUTED}
	var err error
	if response.Status, err = proto.Marshal(ended.Proto()); err != nil {
		t.Fatal(err)
	}
	if response.Status == nil {
		response.Status = []byte{}
	}
	if reply != nil {
		if response.Reply, err = proto.Marshal(reply); err != nil {
			t.Fatal(err)
		}
	}
	return answered(response)
}

var (
	refusedAnswer = answered(&onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_REFUSED})
	runningAnswer = answered(&onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_RUNNING})
	busyAnswer    = []peer.Step{peer.Read(), peer.Fail(codes.Unavailable, "busy")} // such as of a proxy
	unknownAnswer = answered(&onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_UNKNOWN})
)

// unaryShapes are the ways to make a unary call with side effects. They return the
// text of its reply.
var unaryShapes = map[string]func(context.Context, *framework.Bus, *framework.Conn) (string, error){
	"generated": func(ctx context.Context, bus *framework.Bus, _ *framework.Conn) (string, error) {
		reply, err := testv1.NewEchoServiceClient(bus).EchoSoon(ctx, &testv1.EchoSoonRequest{})
		return reply.GetText(), err
	},
	"by name": func(ctx context.Context, bus *framework.Bus, _ *framework.Conn) (text string, err error) {
		reply, err := bus.Call(ctx, "test.echo.echo_soon", framework.Args{"text": ""})
		if err == nil {
			err = reply.Into(&text)
		}
		return text, err
	},
	"asynchronous": func(ctx context.Context, bus *framework.Bus, _ *framework.Conn) (string, error) {
		reply, err := framework.CallAsync(ctx, testv1.NewEchoServiceClient(bus).EchoSoon, &testv1.EchoSoonRequest{}).Await(context.WithoutCancel(ctx))
		return reply.GetText(), err
	},
	"dialled": func(ctx context.Context, _ *framework.Bus, conn *framework.Conn) (string, error) {
		reply, err := testv1.NewEchoServiceClient(conn).EchoSoon(ctx, &testv1.EchoSoonRequest{})
		return reply.GetText(), err
	},
}

// shaped is the test of one shape of a unary call.
type shaped struct {
	*testing.T

	registry *memory.Registry
	call     func(context.Context) (string, error)
}

// eachShape runs a test for each shape of a unary call, with a bus and a connection on
// a registry of its own.
func eachShape(t *testing.T, options []framework.BusOption, test func(shaped)) {
	t.Helper()
	for shape, call := range unaryShapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			bus, conn := newBus(t, registry, options...), dial(t, registry, options...)
			test(shaped{t, registry, func(ctx context.Context) (string, error) { return call(ctx, bus, conn) }})
		})
	}
}

func TestALostReplyIsAskedFor(t *testing.T) {
	t.Parallel()
	eachShape(t, nil, func(t shaped) {
		s := serveSettling(t.T, t.registry, brokenAfter, executed(t.T, nil, &testv1.EchoSoonResponse{Text: "kept"}))
		if text, err := t.call(t.Context()); err != nil || text != "kept" {
			t.Errorf("the call = %q, %v, want the reply that was kept", text, err)
		}
		calls, questions := s.calls(), s.questions()
		if len(calls) != 1 || len(questions) != 1 {
			t.Fatalf("%d calls and %d questions arrived, want one of each", len(calls), len(questions))
		}
		asked := new(onecallv1.SettleRequest)
		if err := proto.Unmarshal(questions[0].Body[5:], asked); err != nil {
			t.Fatal(err)
		}
		if id := calls[0].Identity(); asked.GetCall() != id || questions[0].Identity() != id || asked.GetMethod() != calls[0].Path {
			t.Errorf("asked was %v with the identity %s, want call %s of %s", asked, questions[0].Identity(), id, calls[0].Path)
		}
		if wait := asked.GetWait().AsDuration(); wait <= 0 || wait > time.Minute {
			t.Errorf("the instance may wait for %v", wait)
		}
	})
}

func TestAnErrorThatWasLostIsAskedFor(t *testing.T) {
	t.Parallel()
	eachShape(t, nil, func(t shaped) {
		want := status.New(codes.NotFound, "there is no such user")
		serveSettling(t.T, t.registry, brokenAfter, executed(t.T, want, nil))
		_, err := t.call(t.Context())
		if status.Code(err) != codes.NotFound || framework.OutcomeOf(err) != framework.Executed || err.Error() != want.Err().Error() {
			t.Errorf("the call = %v, want the error of the handler", err)
		}
	})
}

func TestAReplyThatWasNotKeptIsLost(t *testing.T) {
	t.Parallel()
	eachShape(t, nil, func(t shaped) {
		serveSettling(t.T, t.registry, brokenAfter, executed(t.T, nil, nil))
		_, err := t.call(t.Context())
		if status.Code(err) != codes.DataLoss || framework.OutcomeOf(err) != framework.Executed || !strings.Contains(err.Error(), "did not keep it") {
			t.Errorf("the call = %v, want DATA_LOSS, executed, that says so", err)
		}
	})
}

func TestACallThatWasRefusedIsRetried(t *testing.T) {
	t.Parallel()
	eachShape(t, nil, func(t shaped) {
		var begun atomic.Bool
		first := func(request peer.Request) []peer.Step { // the first call breaks
			if begun.Swap(true) {
				return good(request)
			}
			return []peer.Step{peer.Read(), peer.Abort()}
		}
		all := []*settling{serveSettlingWith(t.T, t.registry, first, refusedAnswer), serveSettlingWith(t.T, t.registry, first, refusedAnswer)}
		text, err := t.call(t.Context())
		if err != nil || text != "good" || len(all[0].calls())+len(all[1].calls()) != 2 || len(all[0].questions())+len(all[1].questions()) != 1 {
			t.Errorf("the call = %q, %v, with the requests %v and %v; want the reply of a retry", text, err, all[0].Requests(), all[1].Requests())
		}
	})
}

func TestACallThatRunsIsWaitedFor(t *testing.T) {
	t.Parallel()
	eachShape(t, nil, func(t shaped) {
		s := serveSettling(t.T, t.registry, brokenAfter, runningAnswer, runningAnswer, brokenAfter, busyAnswer, executed(t.T, nil, &testv1.EchoSoonResponse{Text: "kept"}))
		if text, err := t.call(t.Context()); err != nil || text != "kept" {
			t.Errorf("the call = %q, %v, want the reply that was kept", text, err)
		}
		if got := len(s.questions()); got != 5 {
			t.Errorf("the instance was asked %d times, want 5", got)
		}
	})
}

func TestNothingCanBeLearnedAnyMore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer []peer.Step
		before func(*settling)
		want   string
	}{
		"the instance has forgotten": {answer: unknownAnswer, want: "the instance does not know the call"},
		"another instance is there": {answer: runningAnswer, before: func(s *settling) {
			other := discovery.NewIncarnation().String()
			s.name.Store(&other)
		}, want: "another instance is at its address now"},
		"the instance has ended": {answer: runningAnswer, before: func(s *settling) { go s.Close() }, want: "the instance has ended"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachShape(t, nil, func(t shaped) {
				var s *settling
				s = serveSettling(t.T, t.registry, []peer.Step{peer.Read(), peer.Execute(), func(context.Context, *peer.Stream) error {
					if test.before != nil {
						test.before(s)
					}
					return nil
				}, peer.Abort()}, test.answer)
				_, err := t.call(eventually.Context(t))
				if framework.OutcomeOf(err) != framework.Unknown || !errors.Is(err, framework.ErrForgotten) || !strings.Contains(err.Error(), "nothing can be learned of the call any more: "+test.want) {
					t.Errorf("the call = %v, want an unknown outcome that is final", err)
				}
				if st := status.Convert(err); strings.Contains(st.Message(), s.Address()) || strings.Contains(st.Message(), "learned") {
					t.Errorf("its status is %v, which a handler sends to its own caller", st)
				}
			})
		})
	}
}

// TestTheErrorOfACallHidesItsIdentity formats errors of a call in every way.
func TestTheErrorOfACallHidesItsIdentity(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	s := serveSettling(t, registry, brokenAfter, unknownAnswer, refusedAnswer)
	bus := newBus(t, registry)
	_, failed := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	refused := bus.Settle(eventually.Context(t), failed, nil)
	_, session, _ := strings.Cut(s.calls()[0].Identity(), ".")
	session, _, _ = strings.Cut(session, ".")
	for _, err := range []error{failed, refused} {
		if err == nil {
			t.Fatal("there is no error")
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if text := fmt.Sprintf(verb, err); strings.Contains(text, session) {
				t.Errorf("%s shows the session: %s", verb, text)
			}
		}
		if text := status.Convert(err).Proto().String(); strings.Contains(text, session) {
			t.Errorf("the status shows the session: %s", text)
		}
		if text, wrong := json.Marshal(map[string]any{"error": err}); wrong != nil || strings.Contains(string(text), session) {
			t.Errorf("JSON shows the session: %s, %v", text, wrong)
		}
	}
}

// TestACallOfGRPCsOwnServicesIsNotAskedFor calls the health service. Instances do not
// mark its calls, and would refuse one that ran.
func TestACallOfGRPCsOwnServicesIsNotAskedFor(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	s := serveSettling(t, registry, brokenAfter, refusedAnswer)
	conn := dial(t, registry)
	_, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if framework.OutcomeOf(err) != framework.Unknown || len(s.questions()) != 0 {
		t.Errorf("the call = %v, and %d questions arrived", err, len(s.questions()))
	}
	if err := conn.Settle(t.Context(), err, nil); status.Code(err) != codes.InvalidArgument {
		t.Errorf("Settle = %v, want INVALID_ARGUMENT", err)
	}
}
