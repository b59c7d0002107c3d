package client

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/internal/backoff"
)

// RetryPolicy says which failed calls a bus retries. Each policy includes the ones before
// it: see the policies of package framework.
type RetryPolicy int

// The retry policies.
const (
	RetryNone RetryPolicy = iota
	RetryNotRun
	RetryIdempotent
)

// How often one call is retried.
const (
	// notRunRetries is for calls that certainly did not run and never will.
	notRunRetries = 3
	// idempotentRetries is for calls that may have run and declare that they may
	// run again.
	idempotentRetries = 2
)

var retryBackoff = backoff.Policy{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond}

// retry decides whether there is another attempt of a call, with a new identity.
// Nothing else sends a call twice.
type retry struct {
	bus   *Bus
	route *Route
	begun time.Time // when the call began, if anything observes it
	// notify notifies the observers, and the span of the call. It is nil without both.
	notify *notifier.Notifier
	// attempts counts the attempts that were made, and retries the decisions to make
	// another attempt. repeats counts the retries after an attempt that may have run.
	attempts, retries, repeats int
	// first is the failure of the first attempt, nil if there was no other attempt.
	first *failure

	// last is the last attempt, nil if there was none.
	last *client.Attempt
	// unknown is the last attempt that may have run, nil if there is none.
	unknown *client.Attempt
	// within is for how long after the deadline the call is settled.
	within time.Duration
	// reply and opts are those of the call, and stream says that it is a stream.
	reply  any
	opts   []grpc.CallOption
	stream bool
}

// newRetry returns the retry of a call that begins, and the context with which the call
// goes on.
func newRetry(ctx context.Context, r *Route) (retry, context.Context) {
	bus := r.client.api.bus
	begun := retry{bus: bus, route: r, begun: bus.now(), notify: bus.options.notify}
	ctx = begun.trace(ctx)
	return begun, ctx
}

// succeeded records that the call had a reply.
func (r *retry) succeeded() {
	r.route.client.api.shed.succeeded()
	if r.route.idempotent {
		r.bus.throttle.succeeded()
	}
}

// outcome returns the outcome of the call after its last attempt. If an earlier attempt
// may have run, the call may have run.
func (r *retry) outcome(attempt *client.Attempt) atmostonce.Outcome {
	last := attempt.Outcome()
	if r.repeats > 0 && last != atmostonce.Executed {
		return atmostonce.Unknown
	}
	return last
}

// failure returns the failure of the last attempt of the call. before is why there was
// no instance before that attempt, or nil.
func (r *retry) failure(ch *channel, attempt *client.Attempt, before *unavailable, err error) failure {
	failed := newFailure(r.route.rpc, attempt, r.outcome(attempt), err)
	failed.unavailable = ch.availability.since(before)
	failed.settlement = r.settlement(attempt, failed.outcome)
	return failed.locate(ch.links, attempt, r.first)
}

// wait reports whether to make another attempt. It first waits for the backoff. If ctx
// ends while it waits, it returns false.
func (r *retry) wait(ctx context.Context, attempt *client.Attempt, failed failure) bool {
	if r.bus.closed.Load() || ctx.Err() != nil || !r.allowed(attempt, failed) {
		return false
	}
	r.retries++
	if r.first == nil {
		r.first = &failed
	}
	r.retrying(ctx, attempt, failed.err)
	return retryBackoff.Wait(ctx, r.retries) == nil
}

// allowed reports whether another attempt is safe and may succeed.
func (r *retry) allowed(attempt *client.Attempt, failed failure) bool {
	code := status.Code(failed.err)
	notRun := r.bus.options.Retry >= RetryNotRun && r.retries-r.repeats < notRunRetries
	if !attempt.Settled(failed.err) {
		return false
	}
	if attempt.Expired() {
		return notRun && attempt.Renew()
	}
	switch attempt.Outcome() {
	case atmostonce.NotSent:
		return notRun && code == codes.Unavailable && failed.unavailable == nil
	case atmostonce.Refused:
		return notRun && mayDifferElsewhere(failed.err, code) && r.mayRetryShed(code)
	case atmostonce.Unknown:
		return code == codes.Unavailable && r.mayRepeat()
	case atmostonce.Executed:
		return false
	default:
		return false
	}
}

// isRefusal reports whether the instance refused an attempt in a way that allows a
// retry.
func (r *retry) isRefusal(attempt *client.Attempt, failed failure) bool {
	return r.bus.options.Retry >= RetryNotRun && attempt.Outcome() == atmostonce.Refused && mayDifferElsewhere(failed.err, status.Code(failed.err))
}

// mayRetryShed reports whether to retry a call that was refused with a code. If the call
// was shed, it takes the tokens of the retry from the throttle of the API.
func (r *retry) mayRetryShed(code codes.Code) bool {
	return code != codes.ResourceExhausted || r.route.client.api.shed.take()
}

// mayRepeat reports whether to retry a call that may have run. If so, it takes the tokens
// of the retry from the throttle.
func (r *retry) mayRepeat() bool {
	if !r.route.idempotent || r.bus.options.Retry < RetryIdempotent || r.repeats >= idempotentRetries || !r.bus.throttle.take() {
		return false
	}
	r.repeats++
	return true
}

// mayDifferElsewhere reports whether the cause of a refusal is the instance and not the
// call: the instance drains, sheds load or does not have the method.
func mayDifferElsewhere(err error, code codes.Code) bool {
	return atmostonce.ReasonOf(err) == atmostonce.Draining || code == codes.ResourceExhausted || code == codes.Unavailable || code == codes.Unimplemented
}
