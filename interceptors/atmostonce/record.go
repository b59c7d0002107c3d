package atmostonce

import (
	"context"
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
// again once it may have left. Its methods are safe for all goroutines.
type Record struct {
	context.Context //nolint:containedctx // it is one, so that a call needs no other for its record

	caller *Caller
	made   time.Time

	mu sync.Mutex // guards the fields below
	// picked says that it is bound to an instance and may be on its way; left
	// that it got a stream.
	picked, left bool
	bound        *boundSubConn // the connection of the last pick
	method       string        // that it was picked for, as gRPC's path
	identity     Identity
	stamp        *stamp // what carries identity, until the pick ends
	outcome      Outcome
	inner        func(balancer.DoneInfo) // the wrapped policy's, of this pick
}

type recordKey struct{}

// NewRecord returns the record of a call that is about to be issued, with ctx
// as its context.
func (c *Caller) NewRecord(ctx context.Context) *Record {
	return &Record{Context: ctx, caller: c, made: c.now()}
}

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

// Outcome gives what is known of a call whose issue has failed.
func (r *Record) Outcome() Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.left:
		return r.outcome
	case r.picked:
		return Unknown // its end has not been told yet
	default:
		return NotSent
	}
}

// Renew opens a new session for the caller, after the call was told
// [SessionExpired], and tells whether the call may be issued again in it: a
// session is forgotten when it had no call for a day, so a younger call was
// never run, and never will be.
func (r *Record) Renew() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.picked || !r.left || r.identity.IsZero() {
		return false
	}
	r.caller.renew(r.identity.Session)
	return r.caller.now().Sub(r.made) < forgottenAfter
}

// forgottenAfter is the least time after which a server may have forgotten that
// the call ran, less what clocks may differ in their speed.
const forgottenAfter = SessionKept - time.Hour

// errLeft ends a call that somebody wants to send again.
var errLeft = status.Error(codes.Unavailable, "the call was sent once and is not sent again: a retry policy or interceptor, or the connection's end, asked for it")

// bind binds the record to an instance and gives the metadata to send. It fails
// when the record may have left already.
func (r *Record) bind(bound *boundSubConn, method string, incarnation discovery.Incarnation, inner func(balancer.DoneInfo)) (metadata.MD, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.picked || r.left {
		return nil, errLeft
	}
	r.picked, r.inner = true, inner
	r.bound, r.method = bound, method
	if incarnation.IsZero() { // a plain gRPC server: there is nothing to be identified to
		r.identity = Identity{}
		return nil, nil //nolint:nilnil // no metadata, and no fault
	}
	var value string
	r.identity, value = r.caller.identify(incarnation)
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
	return !r.picked && !r.left
}

// done is told the end of a pick: whether it got a stream, and what came back.
func (r *Record) done(info balancer.DoneInfo) {
	r.mu.Lock()
	inner := r.inner
	if r.stamp != nil {
		stamps.Put(r.stamp)
	}
	r.inner, r.stamp, r.picked = nil, nil, false
	if info.BytesSent {
		r.left = true
		if info.Err != nil {
			r.outcome = told(info.Trailer, r.identity.Incarnation)
		}
	}
	bound, method, incarnation, outcome := r.bound, r.method, r.identity.Incarnation, r.outcome
	r.mu.Unlock()
	if bound != nil && info.BytesSent && !bound.ended(method, incarnation, outcome, inner, info) {
		return // the policy calls it
	}
	if inner != nil {
		inner(info)
	}
}

// Address returns the address of the instance that the call was last sent to, or
// was about to be; "" when there was no connection to one.
func (r *Record) Address() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bound.addressOf()
}
