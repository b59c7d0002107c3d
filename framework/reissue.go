package framework

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/backoff"
)

// How often one call is issued again.
const (
	// unsentReissues is for calls that certainly did not run and never will.
	unsentReissues = 3
	// repeatReissues is for calls that may have run and declare that they may
	// run again.
	repeatReissues = 2
)

var reissueBackoff = backoff.Policy{Base: 10 * time.Millisecond, Max: 100 * time.Millisecond}

// reissue decides whether a call that failed is issued again, under a new
// identity. Nothing else ever issues a call twice.
type reissue struct {
	bus   *Bus
	route *route
	// tried counts issues after the first; repeated those of them after which
	// it may have run.
	tried, repeated int
	// first is the failure of the first issue that was followed by another.
	first *failure
}

// succeeded tells that the call had a reply.
func (r *reissue) succeeded() {
	if r.route.repeatable {
		r.bus.budget.earn()
	}
}

// outcome gives what is known of the call after its last issue: that an issue
// before it may have run stays so.
func (r *reissue) outcome(record *atmostonce.Record) Outcome {
	last := record.Outcome()
	if r.repeated > 0 && last != Executed {
		return Unknown
	}
	return last
}

// wait tells whether the call is to be issued again, and waits before it is,
// no longer than ctx lives.
func (r *reissue) wait(ctx context.Context, record *atmostonce.Record, failed failure) bool {
	if r.bus.closed.Load() || ctx.Err() != nil || !r.may(record, failed) {
		return false
	}
	r.tried++
	if r.first == nil {
		r.first = &failed
	}
	return reissueBackoff.Wait(ctx, r.tried) == nil
}

// may tells whether the cause of a failure may be absent elsewhere, and
// whether issuing the call again is safe.
func (r *reissue) may(record *atmostonce.Record, failed failure) bool {
	code := status.Code(failed.err)
	unsent := r.bus.options.reissueUnsent && r.tried-r.repeated < unsentReissues
	if !record.Settled(failed.err) {
		return false
	}
	if record.Expired() {
		return unsent && record.Renew()
	}
	switch record.Outcome() {
	case NotSent:
		return unsent && code == codes.Unavailable && failed.problem == nil
	case Refused:
		return unsent && absentElsewhere(failed.err, code)
	case Unknown:
		return code == codes.Unavailable && r.mayRepeat()
	case Executed:
		return false
	default:
		return false
	}
}

// mayRepeat tells whether a call that may have run is issued again, and takes
// that from the budget.
func (r *reissue) mayRepeat() bool {
	if !r.route.repeatable || !r.bus.options.reissueRepeatable || r.repeated >= repeatReissues || !r.bus.budget.spend() {
		return false
	}
	r.repeated++
	return true
}

// absentElsewhere tells whether a refusal is the instance's, which drains, sheds
// load or does not have the method, and not the call's.
func absentElsewhere(err error, code codes.Code) bool {
	return atmostonce.ReasonOf(err) == atmostonce.Draining || code == codes.ResourceExhausted || code == codes.Unavailable || code == codes.Unimplemented
}

// budget bounds how often calls that may have run are issued again: each reply
// earns a tenth of one.
type budget struct{ spent atomic.Int64 }

const (
	// budgetCost is what one issue costs, in replies: 10 %.
	budgetCost = 10
	// budgetMost is how many replies count as recent.
	budgetMost = 1000
	// budgetStart is what a bus begins with, so that the first calls of a
	// program have some.
	budgetStart = 100
)

// earn adds a reply.
func (b *budget) earn() {
	if spent := b.spent.Load(); spent > budgetStart-budgetMost {
		b.spent.CompareAndSwap(spent, spent-1) // one that is lost in a race is not missed
	}
}

// spend takes what one issue costs, if there is as much.
func (b *budget) spend() bool {
	for {
		spent := b.spent.Load()
		if spent+budgetCost > budgetStart {
			return false
		}
		if b.spent.CompareAndSwap(spent, spent+budgetCost) {
			return true
		}
	}
}
