package atmostonce

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
)

// Record is one issue of a call, and the context that carries it to the pick:
// the balancing policy binds it to the instance that is picked, and never
// again once it may have left. It is for one method of one [Channel], until
// [Record.End]. Its methods are safe for all goroutines.
type Record struct {
	context.Context //nolint:containedctx // it is one, so that a call needs no other for its record

	channel *Channel
	method  string
	made    time.Time // with both clocks: see age

	mu sync.Mutex // guards the fields below
	// picked says that it is bound to an instance and may be on its way; left
	// that it got a stream; ended that the call has returned to the program.
	picked, left, ended bool
	// expired says that the bound instance refused the call with
	// [SessionExpired]; replied that a message of a stream came; unsent that the
	// request could not be written.
	expired, replied, unsent bool
	// clean says that grpc-go reported the end of the call without an error,
	// wordless that the peer sent an error all the same: see learn. trusted says
	// that the bound instance did.
	clean, wordless, trusted bool

	answer   error         // what the peer sent as the status of the call
	bound    *boundSubConn // the connection of the last pick
	identity Identity
	counter  *counter // of identity, until it knows that the call has ended
	stamp    *stamp   // what carries identity, until the pick ends
	outcome  Outcome
	inner    func(balancer.DoneInfo) // the wrapped policy's, of this pick
	err      error                   // what grpc-go returned, inside of all interceptors
}

type recordKey struct{}

// Value implements [context.Context].
func (r *Record) Value(key any) any {
	if _, ok := key.(recordKey); ok {
		return r
	}
	return r.Context.Value(key)
}

// recordOf gives the record of a call, nil when it has none.
func recordOf(ctx context.Context) *Record {
	record, _ := ctx.Value(recordKey{}).(*Record)
	return record
}

// End says that the call has returned to the program: whatever still holds the
// record, such as an interceptor's goroutine that waits for a connection, sends
// nothing any more.
func (r *Record) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// Outcome gives what is known of a call whose issue has failed.
func (r *Record) Outcome() Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.unsent:
		return NotSent
	case r.replied && (r.picked || r.outcome == Unknown):
		return Executed // a message proves that the handler ran
	case r.left:
		return r.outcome
	case r.picked:
		return Unknown // its end has not been told yet
	default:
		return NotSent
	}
}

// Answered reports whether err, with which the call returned, is a status that
// the peer sent, rather than an error of the connection or of this program.
func (r *Record) Answered(err error) bool {
	r.mu.Lock()
	answer := r.answer
	r.mu.Unlock()
	return answer != nil && errors.Is(err, answer) // without the lock: err may be of the program's own type
}

// Settled reports whether err, with which the call returned, is the end of the
// call itself. It is not when an interceptor returned an error of its own, or
// returned while the call is still under way: then nothing may be concluded
// from err, and the call's reply may yet be written.
func (r *Record) Settled(err error) bool {
	r.mu.Lock()
	ended, own := !r.picked, r.err
	r.mu.Unlock()
	return ended && own != nil && errors.Is(err, own)
}

// Foreign reports whether err, with which the call returned, is a status that a
// framework's instance sent without its trailers. Those are with every error of a
// handler, so it is grpc-go's own at that instance, such as that of a request that
// is too large.
func (r *Record) Foreign(err error) bool {
	r.mu.Lock()
	foreign := !r.identity.Incarnation.IsZero() && !r.trusted && r.outcome == Unknown
	r.mu.Unlock()
	return foreign && r.Answered(err)
}

// failed notes what grpc-go returned.
func (r *Record) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	if r.clean {
		r.clean, r.outcome = false, Unknown
	}
	if r.wordless {
		r.wordless = false
		r.conclude(err)
	}
}

// received notes that a message of a stream came.
func (r *Record) received() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replied = true
	r.arrived()
}

// arrived notes that the server has seen the number of the call, or need not see
// it: from now on any number of calls may overtake it. r.mu is held.
func (r *Record) arrived() {
	if r.counter != nil {
		r.counter.end(r.identity.Seq)
		r.counter = nil
	}
}

// unwritten notes that the request of a call could not be written.
func (r *Record) unwritten() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsent = true
}

// Expired reports whether the bound instance refused the call with
// [SessionExpired]. Such a reason counts from nobody else: a handler may pass
// on the refusal of a call that it made.
func (r *Record) Expired() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.expired
}

// Renew opens a new session for the caller, after [Record.Expired], and tells
// whether the call may be issued again in it: a session is forgotten when it had
// no call for a day, so a younger call was never run, and never will be.
func (r *Record) Renew() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.picked || !r.expired {
		return false
	}
	r.channel.caller.renew(r.identity)
	return r.age() < forgottenAfter
}

// age is how old the call may be. A machine that slept has a monotonic clock
// that did not advance, one whose time was set has a wall clock that jumped: the
// later of the two counts.
func (r *Record) age() time.Duration {
	now := r.channel.caller.now()
	return max(now.Sub(r.made), now.Round(0).Sub(r.made.Round(0)))
}

// forgottenAfter is the least time after which a server may have forgotten that
// the call ran, less what clocks may differ in their speed.
const forgottenAfter = SessionKept - time.Hour

var (
	// errLeft ends a call that somebody wants to send again.
	errLeft = status.Error(codes.Unavailable, "the call was sent once and is not sent again: a retry policy or interceptor, or the connection's end, asked for it")
	// errEnded ends an attempt of a call that has returned to the program.
	errEnded = status.Error(codes.Canceled, "the call has returned to the program, so it is not sent any more: an interceptor returned while it still waited for a connection")
	// errLost ends a call without a record.
	errLost = status.Error(codes.Internal, "the call is not sent, because it could run more than once: an interceptor replaced its context with one that does not derive from it. "+
		"Derive the context from the one that the interceptor got; context.WithoutCancel keeps its values without its cancellation and deadline")
	// errForeign ends a call that comes with another call's record.
	errForeign = status.Error(codes.Internal, "the call is not sent: it comes with the context of another call, whose place it would take. "+
		"An interceptor that makes calls of its own makes them through a bus, not over the connection that it is passed")
)

// check reports why a call of a method over a channel must not be bound to the
// record, which may be nil.
func (r *Record) check(channel uint64, method string) error {
	switch {
	case r == nil:
		return errLost
	case r.channel.id != channel || r.method != method:
		return errForeign
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bindable()
}

// bindable reports why the record must not be bound any more. r.mu is held.
func (r *Record) bindable() error {
	switch {
	case r.picked || r.left:
		return errLeft
	case r.ended:
		return errEnded
	default:
		return nil
	}
}

// bind binds the record to an instance and gives the metadata to send. It fails
// when the record may have left already, or has ended.
func (r *Record) bind(bound *boundSubConn, incarnation discovery.Incarnation, inner func(balancer.DoneInfo)) (metadata.MD, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.bindable(); err != nil {
		return nil, err
	}
	r.picked, r.inner = true, inner
	r.bound = bound
	if incarnation.IsZero() { // a plain gRPC server: there is nothing to be identified to
		r.identity = Identity{}
		return nil, nil //nolint:nilnil // no metadata, and no fault
	}
	var value string
	r.identity, r.counter, value = r.channel.caller.identify(incarnation)
	r.stamp = newStamp(value)
	return r.stamp.metadata, nil
}

// stamp is the metadata of one pick. grpc-go copies it when it makes the
// stream, so that it can serve another pick when this one has ended.
type stamp struct {
	metadata metadata.MD
	value    [1]string
}

var stamps = sync.Pool{New: func() any {
	s := new(stamp)
	s.metadata = metadata.MD{CallKey: s.value[:]}
	return s
}}

func newStamp(value string) *stamp {
	s, _ := stamps.Get().(*stamp)
	s.value[0] = value
	return s
}

// mayBind tells whether bind would fail.
func (r *Record) mayBind() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bindable() == nil
}

// done is told the end of a pick: whether it got a stream, and what came back.
func (r *Record) done(info balancer.DoneInfo) {
	r.mu.Lock()
	inner := r.inner
	if r.stamp != nil {
		stamps.Put(r.stamp)
	}
	r.inner, r.stamp, r.picked = nil, nil, false
	r.arrived()
	if info.BytesSent {
		r.left = true
		r.learn(info)
	}
	bound, incarnation, outcome := r.bound, r.identity.Incarnation, r.outcome
	r.mu.Unlock()
	if bound != nil && info.BytesSent && !bound.ended(r.method, incarnation, outcome, inner, info) {
		return // the policy calls it
	}
	if inner != nil {
		inner(info)
	}
}

// learn takes in what came back of a call that was sent. r.mu is held.
//
// grpc-go reports no error also of a call whose error arrived while its request
// was being written: then failed has it. An OK reply has no trailer of ours.
func (r *Record) learn(info balancer.DoneInfo) {
	r.outcome, r.trusted = told(info.Trailer, r.identity.Incarnation)
	answered := answered(info)
	switch {
	case info.Err == nil:
		r.wordless = answered
		if r.clean = len(info.Trailer[IncarnationKey]) == 0; r.clean {
			r.outcome = Executed // whatever an interceptor makes of it
		}
	case answered:
		r.conclude(info.Err)
	}
}

// conclude takes in the status that the peer sent. r.mu is held.
func (r *Record) conclude(err error) {
	r.answer = err
	r.expired = r.trusted && r.outcome != Executed && ReasonOf(err) == SessionExpired
	if r.expired && r.age() < forgottenAfter {
		r.outcome = Refused
	}
}

// Address returns the address of the instance that the call was last sent to, or
// was about to be; "" when there was no connection to one.
func (r *Record) Address() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bound.addressOf()
}
