package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Attempt is one issue of a call, and the context that carries it to the pick:
// the balancing policy binds it to the instance that is picked, and never
// again once it may have left. It is for one method of one [Channel], until
// [Attempt.End]. Its methods are safe for all goroutines.
type Attempt struct {
	context.Context //nolint:containedctx // it is one, so that a call needs no other for its attempt

	channel *Channel
	method  string
	made    time.Time // with both clocks: see age

	mu sync.Mutex // guards the fields below
	// picked says that it is bound to an instance and may be on its way; left
	// that it got a stream; ended that the call has returned to the program.
	picked, left, ended bool
	// expired says that the bound instance refused the call with
	// [atmostonce.SessionExpired]; replied that a message of a stream came; unsent that the
	// request could not be written.
	expired, replied, unsent bool
	// clean says that grpc-go reported the end of the call without an error,
	// wordless that the peer sent an error all the same: see learn. trusted says
	// that the bound instance did.
	clean, wordless, trusted bool

	answer   error         // what the peer sent as the status of the call
	bound    *boundSubConn // the connection of the last pick
	identity atmostonce.Identity
	counter  *counter // of identity, until it knows that the call has ended
	stamp    *stamp   // what carries identity, until the pick ends
	outcome  atmostonce.Outcome
	inner    func(balancer.DoneInfo) // the wrapped policy's, of this pick
	err      error                   // what grpc-go returned, inside of all interceptors
}

type attemptKey struct{}

// Value implements [context.Context].
func (a *Attempt) Value(key any) any {
	if _, ok := key.(attemptKey); ok {
		return a
	}
	return a.Context.Value(key)
}

// attemptOf gives the attempt of a call, nil when it has none.
func attemptOf(ctx context.Context) *Attempt {
	attempt, _ := ctx.Value(attemptKey{}).(*Attempt)
	return attempt
}

// End says that the call has returned to the program: whatever still holds the
// attempt, such as an interceptor's goroutine that waits for a connection, sends
// nothing any more.
func (a *Attempt) End() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
}

// Outcome gives what is known of a call whose issue has failed.
func (a *Attempt) Outcome() atmostonce.Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.unsent:
		return atmostonce.NotSent
	case a.replied && (a.picked || a.outcome == atmostonce.Unknown):
		return atmostonce.Executed // a message proves that the handler ran
	case a.left:
		return a.outcome
	case a.picked:
		return atmostonce.Unknown // its end has not been told yet
	default:
		return atmostonce.NotSent
	}
}

// Answered reports whether err, with which the call returned, is a status that
// the peer sent, rather than an error of the connection or of this program.
func (a *Attempt) Answered(err error) bool {
	a.mu.Lock()
	answer := a.answer
	a.mu.Unlock()
	return answer != nil && errors.Is(err, answer) // without the lock: err may be of the program's own type
}

// Settled reports whether err, with which the call returned, is the end of the
// call itself. It is not when an interceptor returned an error of its own, or
// returned while the call is still under way: then nothing may be concluded
// from err, and the call's reply may yet be written.
func (a *Attempt) Settled(err error) bool {
	a.mu.Lock()
	ended, own := !a.picked, a.err
	a.mu.Unlock()
	return ended && own != nil && errors.Is(err, own)
}

// Foreign reports whether err, with which the call returned, is a status that a
// framework's instance sent without its trailers. Those are with every error of a
// handler, so it is grpc-go's own at that instance, such as that of a request that
// is too large.
func (a *Attempt) Foreign(err error) bool {
	a.mu.Lock()
	foreign := !a.identity.Incarnation.IsZero() && !a.trusted && a.outcome == atmostonce.Unknown
	a.mu.Unlock()
	return foreign && a.Answered(err)
}

// failed notes what grpc-go returned.
func (a *Attempt) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
	if a.clean {
		a.clean, a.outcome = false, atmostonce.Unknown
	}
	if a.wordless {
		a.wordless = false
		a.conclude(err)
	}
}

// received notes that a message of a stream came.
func (a *Attempt) received() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replied = true
	a.arrived()
}

// arrived notes that the server has seen the number of the call, or need not see
// it: from now on any number of calls may overtake it. a.mu is held.
func (a *Attempt) arrived() {
	if a.counter != nil {
		a.counter.end(a.identity.Seq)
		a.counter = nil
	}
}

// unwritten notes that the request of a call could not be written.
func (a *Attempt) unwritten() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unsent = true
}

// Expired reports whether the bound instance refused the call with
// [atmostonce.SessionExpired]. Such a reason counts from nobody else: a handler may pass
// on the refusal of a call that it made.
func (a *Attempt) Expired() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.expired
}

// Renew opens a new session for the caller, after [Attempt.Expired], and tells
// whether the call may be issued again in it: a session is forgotten when it had
// no call for a day, so a younger call was never run, and never will be.
func (a *Attempt) Renew() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.picked || !a.expired {
		return false
	}
	a.channel.caller.renew(a.identity)
	return a.age() < forgottenAfter
}

// age is how old the call may be. A machine that slept has a monotonic clock
// that did not advance, one whose time was set has a wall clock that jumped: the
// later of the two counts.
func (a *Attempt) age() time.Duration {
	now := a.channel.caller.now()
	return max(now.Sub(a.made), now.Round(0).Sub(a.made.Round(0)))
}

// forgottenAfter is the least time after which a server may have forgotten that
// the call ran, less what clocks may differ in their speed.
const forgottenAfter = atmostonce.SessionKept - time.Hour

var (
	// errLeft ends a call that somebody wants to send again.
	errLeft = status.Error(codes.Unavailable, "the call was sent once and is not sent again: a retry policy or interceptor, or the connection's end, asked for it")
	// errEnded ends an attempt of a call that has returned to the program.
	errEnded = status.Error(codes.Canceled, "the call has returned to the program, so it is not sent any more: an interceptor returned while it still waited for a connection")
	// errLost ends a call without an attempt.
	errLost = status.Error(codes.Internal, "the call is not sent, because it could run more than once: an interceptor replaced its context with one that does not derive from it. "+
		"Derive the context from the one that the interceptor got; context.WithoutCancel keeps its values without its cancellation and deadline")
	// errForeign ends a call that comes with another call's attempt.
	errForeign = status.Error(codes.Internal, "the call is not sent: it comes with the context of another call, whose place it would take. "+
		"An interceptor that makes calls of its own makes them through a bus, not over the connection that it is passed")
)

// check reports why a call of a method over a channel must not be bound to the
// attempt, which may be nil.
func (a *Attempt) check(channel uint64, method string) error {
	switch {
	case a == nil:
		return errLost
	case a.channel.id != channel || a.method != method:
		return errForeign
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bindable()
}

// bindable reports why the attempt must not be bound any more. a.mu is held.
func (a *Attempt) bindable() error {
	switch {
	case a.picked || a.left:
		return errLeft
	case a.ended:
		return errEnded
	default:
		return nil
	}
}

// bind binds the attempt to an instance and gives the metadata to send. It fails
// when the attempt may have left already, or has ended.
func (a *Attempt) bind(bound *boundSubConn, incarnation discovery.Incarnation, inner func(balancer.DoneInfo)) (metadata.MD, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.bindable(); err != nil {
		return nil, err
	}
	a.picked, a.inner = true, inner
	a.bound = bound
	if incarnation.IsZero() { // a plain gRPC server: there is nothing to be identified to
		a.identity = atmostonce.Identity{}
		return nil, nil //nolint:nilnil // no metadata, and no fault
	}
	var value string
	a.identity, a.counter, value = a.channel.caller.identify(incarnation)
	a.stamp = newStamp(value)
	return a.stamp.metadata, nil
}

// stamp is the metadata of one pick. grpc-go copies it when it makes the
// stream, so that it can serve another pick when this one has ended.
type stamp struct {
	metadata metadata.MD
	value    [1]string
}

var stamps = sync.Pool{New: func() any {
	s := new(stamp)
	s.metadata = metadata.MD{atmostonce.CallKey: s.value[:]}
	return s
}}

func newStamp(value string) *stamp {
	s, _ := stamps.Get().(*stamp)
	s.value[0] = value
	return s
}

// mayBind tells whether bind would fail.
func (a *Attempt) mayBind() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bindable() == nil
}

// done is told the end of a pick: whether it got a stream, and what came back.
func (a *Attempt) done(info balancer.DoneInfo) {
	a.mu.Lock()
	inner := a.inner
	if a.stamp != nil {
		stamps.Put(a.stamp)
	}
	a.inner, a.stamp, a.picked = nil, nil, false
	a.arrived()
	if info.BytesSent {
		a.left = true
		a.learn(info)
	}
	bound, incarnation, outcome := a.bound, a.identity.Incarnation, a.outcome
	a.mu.Unlock()
	if bound != nil && info.BytesSent && !bound.ended(a.method, incarnation, outcome, inner, info) {
		return // the policy calls it
	}
	if inner != nil {
		inner(info)
	}
}

// learn takes in what came back of a call that was sent. a.mu is held.
//
// grpc-go reports no error also of a call whose error arrived while its request
// was being written: then failed has it. An OK reply has no trailer of ours.
func (a *Attempt) learn(info balancer.DoneInfo) {
	a.outcome, a.trusted = parseTrailer(info.Trailer, a.identity.Incarnation)
	answered := answered(info)
	switch {
	case info.Err == nil:
		a.wordless = answered
		if a.clean = len(info.Trailer[atmostonce.IncarnationKey]) == 0; a.clean {
			a.outcome = atmostonce.Executed // whatever an interceptor makes of it
		}
	case answered:
		a.conclude(info.Err)
	}
}

// conclude takes in the status that the peer sent. a.mu is held.
func (a *Attempt) conclude(err error) {
	a.answer = err
	a.expired = a.trusted && a.outcome != atmostonce.Executed && atmostonce.ReasonOf(err) == atmostonce.SessionExpired
	if a.expired && a.age() < forgottenAfter {
		a.outcome = atmostonce.Refused
	}
}

// Incarnation returns that of the instance that the call was last sent to, or was
// about to be; zero when there was none, or it has no incarnation.
func (a *Attempt) Incarnation() discovery.Incarnation {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.identity.Incarnation
}

// Address returns the address of the instance that the call was last sent to, or
// was about to be; "" when there was no connection to one.
func (a *Attempt) Address() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bound.addressOf()
}
