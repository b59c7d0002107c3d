package client

import (
	"context"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/backoff"
	"github.com/onecall-dev/onecall/internal/contract"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// settlement is what is needed to ask an instance what became of a call. It has the
// session of the bus, which is a secret: the error of a call hides it.
type settlement struct {
	bus  *Bus
	path string // gRPC's path
	rpc  string // the bus name
	// at is the instance that the call was bound to.
	at       askerKey
	identity atmostonce.Identity
	// several says that other attempts of the call may have run too.
	several bool
	// shared says that other instances can answer too, from a ledger.
	shared bool
	// sent is when the attempt was made, by both clocks if in this process.
	sent   time.Time
	stream bool
	// reply is the full proto name of the reply, "" if it is not a protobuf message.
	// newReply makes one; nil if its type must be found.
	reply    protoreflect.FullName
	newReply func() protoreflect.Message
	rules    validate.Method
	// opts are the options of the call that also count for the question.
	opts []grpc.CallOption
}

// in returns an error that hides the settlement, which may be nil.
func (s *settlement) in(failed *callerr.Error) error {
	if s == nil {
		return failed
	}
	return failed.Hide(*s)
}

// answer is what is known of a call after its instance was asked.
type answer struct {
	state onecallv1.SettleResponse_State
	// status is the status with which an executed call ended, nil if the instance did
	// not keep it.
	status *status.Status
	// reply is the reply of a call that ended without an error, if kept is true.
	reply []byte
	kept  bool

	// why says in words why the state is not known, "" if the instance is one that
	// cannot be asked. final says that asking again would not help.
	why   string
	final bool
	// gone says that the instance cannot be asked any more.
	gone bool
}

const (
	// longestWait is how long an instance waits for the end of a call before it
	// answers RUNNING, and is asked again. Proxies may end a stream that is idle for
	// longer.
	longestWait = 20 * time.Second
	// waitMargin is which part of the time that is left is kept for the answer.
	waitMargin = 8
	// mostOdd is how many questions may fail in another way than by their connection:
	// the instance does not name itself, or the question cannot be sent.
	mostOdd = 3
)

// instanceEnded is why nothing can be learned from an instance that cannot be connected
// to any more. One that drains accepts no connections, although its handlers still run.
const instanceEnded = "the instance has ended, or accepts no connections any more"

// goneFor returns the answer of an instance that cannot be asked any more.
func goneFor(why string) answer { return answer{why: why, final: true, gone: true} }

var askBackoff = backoff.Policy{Base: 10 * time.Millisecond, Max: 500 * time.Millisecond}

// ask asks the instance what became of the call until it knows the end of the call, or
// nothing can be learned, or ctx ends. It notifies the observers of n.
func (s *settlement) ask(ctx context.Context, n *notifier.Notifier) answer {
	begun := n.Now()
	answered := s.askUntil(ctx)
	s.bus.settled[answered.learned()].Add(1)
	if n != nil {
		n.Notify(ctx, observe.CallSettled{
			RPC: s.rpc, Address: s.at.address, Incarnation: s.at.incarnation, Outcome: answered.outcome(), Code: answered.code(s.stream),
			Forgotten: answered.final, Duration: time.Since(begun),
		})
	}
	return answered
}

// outcome returns the outcome that an answer says.
func (a answer) outcome() atmostonce.Outcome {
	switch a.state {
	case onecallv1.SettleResponse_STATE_EXECUTED:
		return atmostonce.Executed
	case onecallv1.SettleResponse_STATE_REFUSED:
		return atmostonce.Refused
	default:
		return atmostonce.Unknown
	}
}

// learned are the names in metrics of what a bus can learn when it asks an instance.
var learned = [...]string{"executed", "refused", "unknown", "forgotten"}

// stillUnknown is the index of the first of them after which the outcome is unknown.
const stillUnknown = 2

// learned returns the index in learned of what an answer says.
func (a answer) learned() int {
	switch a.outcome() {
	case atmostonce.Executed:
		return 0
	case atmostonce.Refused:
		return 1
	default:
		if a.final {
			return len(learned) - 1
		}
		return stillUnknown
	}
}

// code returns the code with which an executed call ended, for observers.
func (a answer) code(stream bool) codes.Code {
	switch {
	case a.outcome() != atmostonce.Executed:
		return codes.OK
	case a.status == nil:
		return codes.Unknown
	case a.status.Code() == codes.OK && !a.kept && !stream:
		return codes.DataLoss
	default:
		return a.status.Code()
	}
}

// askUntil is ask without the observers.
func (s *settlement) askUntil(ctx context.Context) answer {
	conn, err := s.bus.askers.acquire(s.at, s.rpc)
	if err != nil {
		return answer{why: "the instance was not asked: " + err.Error()}
	}
	defer s.bus.askers.release(conn)
	answered := s.askOn(ctx, conn.ClientConn, conn.calls, conn.gone)
	if !answered.gone || !s.shared {
		return answered
	}
	service, _, _ := contract.SplitMethod(s.path)
	others, err := s.bus.connect(s.at.api, service, s.rpc)
	if err != nil {
		return answered
	}
	ch := others.withTimeouts
	if fromOther := s.askOn(ctx, ch.ClientConn, ch.calls, s.bus.fetcher.Life()); !fromOther.gone {
		return fromOther
	}
	return answered
}

// askOn asks over a connection. gone ends when asking on it is of no use any more.
func (s *settlement) askOn(ctx context.Context, conn *grpc.ClientConn, calls *client.Channel, gone context.Context) answer { //nolint:revive // gone is no context of the call
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(gone, cancel)()
	last := answer{why: "the instance did not answer what became of the call"}
	for failures, odd := 1, 0; ; failures++ {
		response, attempt, err := s.askOnce(ctx, conn, calls)
		if err == nil {
			last, failures = newAnswer(response), 0
			if last.state != onecallv1.SettleResponse_STATE_RUNNING {
				return last
			}
		} else {
			given, again := noAnswer(attempt, err, gone.Err() != nil)
			if again == askSeldom {
				odd++
			}
			if again == askNever || odd >= mostOdd {
				return given
			}
		}
		if ctx.Err() != nil || s.bus.closed.Load() || askBackoff.Wait(ctx, max(failures, 1)) != nil {
			if gone.Err() != nil {
				return goneFor(instanceEnded)
			}
			return last
		}
	}
}

// askAgain says how often to ask again after a question that had no answer.
type askAgain int

const (
	// askAlways: the connection broke, or there was none.
	askAlways askAgain = iota
	// askSeldom: mostOdd times.
	askSeldom
	askNever
)

// noAnswer returns what to answer for a question that failed, and how often it may be
// asked again before that.
func noAnswer(attempt *client.Attempt, err error, gone bool) (answer, askAgain) {
	misplaced, replaced := attempt.Misplaced()
	answered, code := attempt.Answered(err), status.Code(err)
	switch {
	case gone:
		return goneFor(instanceEnded), askNever
	case replaced, answered && atmostonce.ReasonOf(err) == atmostonce.WrongInstance:
		return goneFor("another instance is at its address now"), askNever
	case misplaced:
		return answer{}, askSeldom
	case code == codes.Unavailable:
		return answer{}, askAlways
	case answered && code == codes.Unimplemented:
		return answer{}, askNever // it is older than the question
	case answered:
		return answer{why: "the instance did not say what became of the call: " + callerr.ShownText(status.Convert(err).Message())}, askNever
	default:
		return answer{why: "the instance could not be asked: " + callerr.ShownText(status.Convert(err).Message())}, askSeldom
	}
}

// askOnce asks once.
func (s *settlement) askOnce(ctx context.Context, conn *grpc.ClientConn, calls *client.Channel) (*onecallv1.SettleResponse, *client.Attempt, error) {
	request := &onecallv1.SettleRequest{Call: s.identity.Value(), Method: s.path, Age: durationpb.New(s.age())}
	wait := longestWait
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		wait = min(wait, left-left/waitMargin)
	}
	if wait > 0 {
		request.Wait = durationpb.New(wait)
	}
	attempt := calls.Ask(ctx, onecallv1.Calls_Settle_FullMethodName, s.identity)
	defer attempt.End() // also if an interceptor panics
	response := new(onecallv1.SettleResponse)
	opts := append([]grpc.CallOption{grpc.WaitForReady(true)}, s.opts...)
	err := conn.Invoke(attempt, onecallv1.Calls_Settle_FullMethodName, request, response, opts...)
	return response, attempt, err
}

// age returns how long ago the call was sent. The monotonic clock does not advance while
// the machine sleeps, and the wall clock jumps when it is set, so the longer time counts.
func (s *settlement) age() time.Duration {
	now := time.Now()
	return max(now.Sub(s.sent), now.Round(0).Sub(s.sent.Round(0)), 0)
}

// newAnswer returns the answer of an instance.
func newAnswer(response *onecallv1.SettleResponse) answer {
	a := answer{state: response.GetState()}
	switch a.state {
	case onecallv1.SettleResponse_STATE_REFUSED:
	case onecallv1.SettleResponse_STATE_RUNNING:
		a.why = "the call had not ended when the instance was asked last"
	case onecallv1.SettleResponse_STATE_EXECUTED:
		ended := new(spb.Status)
		if response.Status == nil || proto.Unmarshal(response.GetStatus(), ended) != nil {
			break // it is not known with which error
		}
		a.status = status.FromProto(ended)
		a.reply, a.kept = response.GetReply(), response.Reply != nil
	default: // unknown, unspecified, or a state of a later version
		a.why, a.final = "the instance does not know the call, or does not answer this caller", true
	}
	return a
}

// The errors of an executed call whose end is lost.
var (
	errReplyLost  = status.Error(codes.DataLoss, "the call succeeded, but its reply is lost: the instance did not keep it")
	errReplyOther = status.Error(codes.DataLoss, "the call succeeded, but its reply cannot be read: it has another type")
	errErrorLost  = status.Error(codes.Unknown, "the call ended with an error, which the instance did not keep")
)

// end returns the error with which an executed call ended, nil for success. It stores
// the reply in message, unless that is nil. written says that the handler wrote the
// error.
func (a answer) end(message proto.Message) (err error, written bool) {
	switch {
	case a.status == nil:
		return errErrorLost, false
	case a.status.Code() != codes.OK:
		return a.status.Err(), true
	case message == nil:
		return nil, false
	case !a.kept:
		return errReplyLost, false
	case proto.Unmarshal(a.reply, message) != nil:
		return errReplyOther, false
	default:
		return nil, false
	}
}

// text returns for an error text why the outcome is still unknown.
func (a answer) text() string {
	if a.final {
		return callerr.ErrForgotten.Error() + ": " + a.why
	}
	return a.why
}
