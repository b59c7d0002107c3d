package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/contextkey"
)

// Attempt is one sending of a call, and the context that carries it to the pick. The
// balancing policy binds it to the instance that is picked, and never again once it
// may have left. It is for one method of one [Channel], until [Attempt.End]. Its
// methods are safe for all goroutines.
//
// The attempt's lock is taken before those of the caller.
type Attempt struct {
	context.Context //nolint:containedctx // it is one, so that a call needs no other for its attempt

	channel *Channel
	method  string
	made    time.Time // by both clocks: see age
	// usesLink is set by UseLink. limited and limit, after made, are set by Limit.
	usesLink, limited bool
	limit             time.Duration
	timed             atomic.Pointer[timed] // nil until something waits for it

	mu sync.Mutex // guards the fields below
	// picked is whether the attempt is bound to an instance and may be sent now; left
	// whether it got a stream; ended whether the call has returned to the program.
	picked, left, ended bool
	// expired is whether the bound instance refused the attempt with
	// [atmostonce.SessionExpired]; replied whether a message of a stream arrived;
	// unsent whether the request could not be encoded.
	expired, replied, unsent bool
	// shared is whether the bound instance shares a ledger with others, which can answer
	// what became of the attempt.
	shared bool
	// These are set by learn. clean is whether grpc-go reported the end without an
	// error; errorFollows whether the peer sent an error nevertheless, which grpc-go
	// returns later; trusted whether the bound instance sent the trailer.
	clean, errorFollows, trusted bool
	// asks is whether the attempt asks what became of identity: see [Channel.Ask].
	// misplaced and replaced are set by place: see [Attempt.Misplaced].
	asks, misplaced, replaced bool

	answer    error         // the status that the peer sent
	bound     *boundSubConn // the connection of the last pick
	identity  atmostonce.Identity
	counter   *counter // that of identity, until its number has ended
	stamp     *stamp   // the metadata with identity, until the pick ends
	sent      *sending // that which has the stamp, nil if the result of the pick has it
	first     sending  // of the first invocation of grpc-go
	outcome   atmostonce.Outcome
	childDone func(balancer.DoneInfo) // the child policy's, for this pick
	err       error                   // the error that grpc-go returned to the innermost interceptor
}

type attemptKey struct{}

// Value implements [context.Context].
func (a *Attempt) Value(key any) any {
	switch key {
	case attemptKey{}:
		return a
	case contextkey.Cause: // contexts that derive from this one join it by this key
		return a.waitable().Value(key)
	default:
		return a.Context.Value(key)
	}
}

// attemptOf returns the attempt of a context, nil if it has none.
func attemptOf(ctx context.Context) *Attempt {
	attempt, _ := ctx.Value(attemptKey{}).(*Attempt)
	return attempt
}

// End notes that the call has returned to the program. From now on nothing of the
// attempt is sent, even if an interceptor's goroutine still waits for a connection.
func (a *Attempt) End() {
	a.endLimit()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
}

// Outcome returns what is known of a failed attempt.
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
		return atmostonce.Unknown // its end is not known yet
	default:
		return atmostonce.NotSent
	}
}

// Answered reports whether err, with which the call returned, is a status that the
// peer sent. Otherwise it is an error of the connection or of this program.
func (a *Attempt) Answered(err error) bool {
	a.mu.Lock()
	answer := a.answer
	a.mu.Unlock()
	return answer != nil && errors.Is(err, answer) // without the lock: err may have a method Is that calls a method of the attempt
}

// Settled reports whether err, with which the call returned, is the end of the attempt.
// It is not if an interceptor returned an error of its own, or returned while the
// attempt is still in flight. Then err says nothing about the attempt, whose reply
// may still be written.
func (a *Attempt) Settled(err error) bool {
	a.mu.Lock()
	ended, own := !a.picked, a.err
	a.mu.Unlock()
	return ended && own != nil && errors.Is(err, own)
}

// Foreign reports whether err, with which the call returned, is a status that an
// instance of the framework sent without our trailers. Every error of a handler has
// them, so it is an error of grpc-go at that instance, such as of a request that is
// too large.
func (a *Attempt) Foreign(err error) bool {
	a.mu.Lock()
	foreign := !a.identity.Incarnation.IsZero() && !a.trusted && a.outcome == atmostonce.Unknown
	a.mu.Unlock()
	return foreign && a.Answered(err)
}

// failed records the error that grpc-go returned.
func (a *Attempt) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
	if a.clean {
		a.clean, a.outcome = false, atmostonce.Unknown
	}
	if a.errorFollows {
		a.errorFollows = false
		a.conclude(err)
	}
}

// received notes that a message of a stream arrived.
func (a *Attempt) received() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replied = true
	a.arrived()
}

// arrived notes that the server has seen the number of the attempt, or will not see
// it. From now on any number of other attempts may overtake it. a.mu is held.
func (a *Attempt) arrived() {
	if a.counter != nil {
		a.counter.end(a.identity.Seq)
		a.counter = nil
	}
}

// unwritten notes that the request could not be encoded.
func (a *Attempt) unwritten() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unsent = true
}

// Expired reports whether the bound instance refused the attempt with
// [atmostonce.SessionExpired]. The reason counts only from the instance itself: a
// handler may return the refusal of a call that it made.
func (a *Attempt) Expired() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.expired
}

// Renew starts a new session for the caller, after [Attempt.Expired], and reports
// whether the call may be retried in it. A server forgets a session only after a day
// without calls, so a younger attempt did not run and never will.
func (a *Attempt) Renew() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.picked || !a.expired {
		return false
	}
	a.channel.caller.renew(a.identity)
	return a.age() < forgottenAfter
}

// age returns how old the attempt is at most. The monotonic clock does not advance
// while the machine sleeps, and the wall clock jumps when it is set, so the longer of
// the two times counts.
func (a *Attempt) age() time.Duration {
	now := a.channel.caller.now()
	return max(now.Sub(a.made), now.Round(0).Sub(a.made.Round(0)))
}

// forgottenAfter is the least age at which a server may have forgotten an attempt. It
// allows for clocks of different speed.
const forgottenAfter = atmostonce.SessionKept - time.Hour

var (
	// errLeft is the error of a pick for an attempt that may have been sent.
	errLeft = status.Error(codes.Unavailable, "the call was sent once and is not sent again: a retry policy or an interceptor tried to, or grpc-go did because the connection ended")
	// errEnded is the error of a pick for a call that has returned to the program.
	errEnded = status.Error(codes.Canceled, "the call has returned to the program, so it is not sent any more: an interceptor returned while it still waited for a connection")
	// errLost is the error of a pick without an attempt.
	errLost = status.Error(codes.Internal, "the call is not sent, because it could run more than once: an interceptor replaced its context with one that does not derive from it. "+
		"Derive the context from the one that the interceptor received; context.WithoutCancel keeps its values without its cancellation and deadline")
	// errForeign is the error of a pick with another call's attempt.
	errForeign = status.Error(codes.Internal, "the call is not sent: it has the context of another call, and would use the identity of that call. "+
		"An interceptor must make its own calls on a bus, not on the connection that it is passed")
)

// check returns an error if a pick for a method on a channel must not bind the attempt,
// which may be nil.
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

// bindable returns an error if the attempt must not be bound any more. a.mu is held.
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

// bind binds the attempt to an instance. sent is the context in which grpc-go reads the
// metadata, and gets the identity. If it is nil, bind returns the metadata to send. It fails
// if the attempt may have left already, or has ended.
func (a *Attempt) bind(bound *boundSubConn, incarnation discovery.Incarnation, sent *sending, childDone func(balancer.DoneInfo)) (metadata.MD, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.bindable(); err != nil {
		return nil, err
	}
	settles := bound != nil && bound.settles.Load() // it is nil in tests
	if err := a.place(incarnation, settles); err != nil {
		return nil, err
	}
	a.shared = settles
	a.picked, a.childDone = true, childDone
	a.bound = bound
	if a.asks {
		return a.send(a.identity.Value(), sent), nil
	}
	if incarnation.IsZero() { // a plain gRPC server, which knows no identities
		a.identity = atmostonce.Identity{}
		return nil, nil //nolint:nilnil // there is no metadata, which is no error
	}
	var value string
	a.identity, a.counter, value = a.channel.caller.identify(incarnation)
	return a.send(value, sent), nil
}

// send makes the stamp of a pick. It returns the metadata for the pick's result, if grpc-go
// does not read that of sent. a.mu is held.
func (a *Attempt) send(value string, sent *sending) metadata.MD {
	a.stamp, a.sent = newStamp(value, sent), sent
	if sent == nil {
		return a.stamp.metadata
	}
	sent.stamp = a.stamp
	return nil
}

// mayBind reports whether bind would succeed.
func (a *Attempt) mayBind() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bindable() == nil
}

// done is called at the end of a pick. info says whether it got a stream, and what was
// received.
func (a *Attempt) done(info balancer.DoneInfo) {
	a.mu.Lock()
	childDone := a.childDone
	if a.sent != nil {
		a.sent.stamp = nil
	}
	if a.stamp != nil {
		a.stamp.release(info.BytesSent)
	}
	a.childDone, a.stamp, a.sent, a.picked = nil, nil, nil, false
	a.arrived()
	if info.BytesSent {
		a.left = true
		a.learn(info)
	}
	bound, incarnation, outcome := a.bound, a.identity.Incarnation, a.outcome
	a.mu.Unlock()
	if bound != nil && info.BytesSent && !bound.ended(a.method, incarnation, outcome, childDone, info) {
		return // the connection calls it later
	}
	if childDone != nil {
		childDone(info)
	}
}

// learn records what was received for an attempt that was sent. a.mu is held.
//
// If an error reply arrives while the request is still written, grpc-go calls done
// without the error and returns it later, to failed. The trailers distinguish the two
// cases: an OK reply has none of ours.
func (a *Attempt) learn(info balancer.DoneInfo) {
	a.outcome, a.trusted = parseTrailer(info.Trailer, a.identity.Incarnation)
	answered := answered(info)
	switch {
	case info.Err == nil:
		a.errorFollows = answered
		if a.clean = len(info.Trailer[atmostonce.IncarnationKey]) == 0; a.clean {
			a.outcome = atmostonce.Executed // even if an interceptor returns an error
		}
	case answered:
		a.conclude(info.Err)
	}
}

// conclude records the status that the peer sent. a.mu is held.
func (a *Attempt) conclude(err error) {
	a.answer = err
	a.expired = a.trusted && a.outcome != atmostonce.Executed && atmostonce.ReasonOf(err) == atmostonce.SessionExpired
	if a.expired && a.age() < forgottenAfter {
		a.outcome = atmostonce.Refused
	}
}

// Made returns when the attempt was made.
func (a *Attempt) Made() time.Time { return a.made }

// Shared reports whether other instances can answer what became of the attempt, from a
// ledger that they share with the bound one.
func (a *Attempt) Shared() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.shared
}

// Incarnation returns that of the instance that was picked last; zero if none was, or
// if it has none.
func (a *Attempt) Incarnation() discovery.Incarnation {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.identity.Incarnation
}

// Address returns the address of the instance that was picked last; "" if none was.
func (a *Attempt) Address() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bound.addressOf()
}
