package client

import (
	"context"
	"time"

	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
)

// end counts the end of a call, notifies the observers of it and returns its error.
func (r *retry) end(ctx context.Context, stream bool, err error) error {
	of := r.route.client.api
	of.calls.Add(1)
	if err != nil {
		of.failed.Add(1)
	}
	if n := r.bus.options.notify; n != nil {
		n.Notify(ctx, observe.CallEnded{
			RPC: r.route.rpc, Stream: stream, Outcome: callerr.OutcomeOf(err), Code: status.Code(err),
			Duration: time.Since(r.begun), Attempts: r.attempts,
		})
	}
	return err
}

// notCalled notifies the observers of a call that ended before it had a route, and
// returns its error.
func (b *Bus) notCalled(ctx context.Context, rpc string, stream bool, err error) error {
	if n := b.options.notify; n != nil && ctx != nil {
		n.Notify(ctx, observe.CallEnded{RPC: callerr.ShownName(rpc), Stream: stream, Outcome: callerr.OutcomeOf(err), Code: status.Code(err)})
	}
	return err
}

// attemptEnded notifies the observers of the end of the last attempt. begun is when it
// began. err is nil if it succeeded.
func (r *retry) attemptEnded(ctx context.Context, attempt *client.Attempt, begun time.Time, err error) {
	n := r.bus.options.notify
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
	if n := r.bus.options.notify; n != nil {
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
