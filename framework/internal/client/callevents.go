package client

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/ended"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/internal/quote"
)

// end counts the end of a call, notifies the observers of it and returns its error.
func (r *retry) end(ctx context.Context, stream bool, err error) error {
	of := r.route.client.api
	of.calls.Add(1)
	if err != nil {
		of.failed.Add(1)
	}
	if r.begun.IsZero() {
		return err // nothing observes the call
	}
	took, outcome, code := time.Since(r.begun), callerr.OutcomeOf(err), status.Code(err)
	r.route.calls.Record(code, outcome, took)
	if n := r.notify; n != nil {
		n.Notify(ctx, observe.CallEnded{RPC: r.route.rpc, Stream: stream, Outcome: outcome, Code: code, Duration: took, Attempts: r.attempts})
	}
	r.bus.options.Watchers.Ended(ctx, code, took, func() ended.Call {
		call := describe(r.route.rpc, stream, err)
		call.Took, call.Attempts = took, r.attempts
		if r.last != nil {
			call.Address, call.ID = r.last.Address(), ended.ID(r.last.Identity())
		}
		return call
	})
	return err
}

// maxErrorBytes is how many bytes of an error the log of calls and the status page have.
const maxErrorBytes = 1 << 10

// describe describes a call that has ended.
func describe(rpc string, stream bool, err error) ended.Call {
	call := ended.Call{At: time.Now(), RPC: rpc, Stream: stream, Outcome: callerr.OutcomeOf(err), Code: status.Code(err)}
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "rpc error: code = "+status.Code(err).String()+" desc = ") // of a handler's own error
		call.Err = quote.Line(text, maxErrorBytes)
	}
	return call
}

// notCalled counts a call that ended before it had a route, notifies the observers of it,
// and returns its error.
func (b *Bus) notCalled(ctx context.Context, rpc string, stream bool, err error) error {
	b.meters.Other().Record(status.Code(err), callerr.OutcomeOf(err), 0)
	if ctx == nil {
		return err // the call has no context, which is its error
	}
	b.options.Watchers.Ended(ctx, status.Code(err), 0, func() ended.Call { return describe(callerr.ShownName(rpc), stream, err) })
	if n := b.options.notify; n != nil {
		n.Notify(ctx, observe.CallEnded{RPC: callerr.ShownName(rpc), Stream: stream, Outcome: callerr.OutcomeOf(err), Code: status.Code(err)})
	}
	return err
}

// attemptEnded notifies the observers of the end of the last attempt. begun is when it
// began. err is nil if it succeeded.
func (r *retry) attemptEnded(ctx context.Context, attempt *client.Attempt, begun time.Time, err error) {
	n := r.notify
	if n == nil {
		return
	}
	event := observe.AttemptEnded{
		RPC: r.route.rpc, Number: r.attempts, Address: attempt.Address(), Incarnation: attempt.Incarnation(),
		Outcome: atmostonce.Executed, Code: status.Code(err), Duration: time.Since(begun),
	}
	if err != nil {
		event.Outcome = attempt.Outcome()
		event.Reason = reasonOf(event.Outcome, err)
	}
	n.Notify(ctx, event)
}

// retrying notifies the observers that the bus waits for another attempt.
func (r *retry) retrying(ctx context.Context, attempt *client.Attempt, err error) {
	r.route.client.api.retries.Add(1)
	if n := r.notify; n != nil {
		outcome := attempt.Outcome()
		n.Notify(ctx, observe.Retrying{
			RPC: r.route.rpc, Number: r.attempts + 1, Outcome: outcome, Code: status.Code(err), Reason: reasonOf(outcome, err),
		})
	}
}

// reasonOf returns why an instance refused an attempt. It returns "" for an attempt that
// ran, because its handler may have returned the error of another call.
func reasonOf(outcome atmostonce.Outcome, err error) atmostonce.Reason {
	if outcome == atmostonce.Executed {
		return ""
	}
	return atmostonce.ReasonOf(err)
}
