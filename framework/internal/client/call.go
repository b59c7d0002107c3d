package client

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// Route returns the route of a method, by gRPC's path, for calls with some options. It
// notifies the observers of a call that has no route. stream says that the call is a
// stream.
func (b *Bus) Route(ctx context.Context, path string, stream bool, opts []grpc.CallOption) (*Route, error) {
	found, err := b.route(ctx, path, opts)
	if err != nil {
		return nil, b.notCalled(ctx, b.nameOf(path), stream, err)
	}
	return found, nil
}

// Call makes a unary call. These steps run around it, the outermost first:
//
//	the request's rules → retries → deadline → the attempt, which is bound at the pick →
//	the program's own interceptors → reserved metadata → grpc-go
//
// On the way back the reply's rules are checked, or the error gets its text.
func (r *Route) Call(ctx context.Context, args, reply any, opts []grpc.CallOption) error {
	retry, ctx := newRetry(ctx, r)
	call, err := timeout.Begin(r.limit, opts)
	if err != nil {
		return retry.end(ctx, false, failure{rpc: r.rpc, outcome: atmostonce.NotSent, err: err}.asError())
	}
	retry.reply, retry.opts = reply, opts
	if retry.within, err = retry.bus.settleLimit(opts); err != nil {
		return retry.end(ctx, false, callerr.Invalid(r.rpc, "%v", err))
	}
	if err := r.checkRequest(args); err != nil {
		return retry.end(ctx, false, err)
	}
	ch := r.client.withTimeouts
	if r.configured && call.Longer(r.limit) {
		if ch, err = r.client.channelWithoutTimeouts(r.rpc); err != nil {
			return retry.end(ctx, false, err)
		}
	}
	for {
		before := ch.availability.now()
		attempt, err := r.try(ctx, &retry, ch, call, r.next(&retry, ch, call, before), args, reply, opts)
		if err == nil {
			return retry.end(ctx, false, r.succeeded(&retry, reply))
		}
		failed, replied := retry.settle(ctx, call, attempt, retry.failure(ch, attempt, before, err), reply)
		if replied {
			return retry.end(ctx, false, r.succeeded(&retry, reply))
		}
		limited, cancel := call.Context(ctx)
		again := retry.wait(limited, attempt, failed)
		cancel()
		if !again {
			if failed.outcome != atmostonce.Executed {
				failed = failed.late(call.Explain(ctx, r.rpc, failed.err))
			}
			return retry.end(ctx, false, retry.bus.explain(ctx, failed))
		}
	}
}

// checkRequest returns an error if the request must not be sent.
func (r *Route) checkRequest(request any) error {
	if isNil(request) {
		return nilRequest(r.rpc, atmostonce.NotSent)
	}
	if err := r.rules.CheckRequest(request); err != nil {
		return failure{rpc: r.rpc, outcome: atmostonce.NotSent, err: err}.asError()
	}
	return nil
}

// tries is how an attempt is made.
type tries struct {
	// own sets the call's timeout on the attempt. Otherwise the channel applies it.
	own bool
	// linked lets the attempt take a link.
	linked bool
}

// next returns how to make the next attempt. before is why there is no instance, nil if there
// is one.
func (r *Route) next(retry *retry, ch *channel, call timeout.Call, before *unavailable) tries {
	// The first attempt may take a link. Further ones go where the balancer sends them.
	linked := retry.attempts == 0 && ch.calls.HasLink(r.path)
	// Until the first resolver update grpc-go has no service config and so applies no
	// timeout: set the deadline on the attempt.
	own := call.Exact() || !r.configured || retry.retries > 0 || before != nil || linked
	return tries{own, linked}
}

// try makes one attempt.
func (r *Route) try(ctx context.Context, retry *retry, ch *channel, call timeout.Call, how tries, args, reply any, opts []grpc.CallOption) (*client.Attempt, error) {
	attempt := ch.calls.NewAttempt(ctx, r.path)
	if how.own {
		attempt.Limit(call.Deadline())
	}
	if how.linked {
		attempt.UseLink()
	}
	defer attempt.End() // also if an interceptor panics
	retry.attempts, retry.last = retry.attempts+1, attempt
	begun := retry.notify.Now()
	err := ch.Invoke(attempt, r.path, args, reply, opts...)
	retry.attemptEnded(ctx, attempt, begun, err)
	return attempt, err
}

// succeeded records that there is a reply, and returns an error if the reply breaks the
// rules. If the program's .proto does not have the method, succeeded keeps the route.
func (r *Route) succeeded(retry *retry, reply any) error {
	retry.succeeded()
	if !r.listed {
		r.client.api.bus.keepAnswered(r)
	}
	if err := r.rules.CheckReply(reply); err != nil {
		return failure{rpc: r.rpc, outcome: atmostonce.Executed, written: true, err: err}.asError()
	}
	return nil
}

// explain returns the error of a failed call for the program. ctx is the program's
// context.
func (b *Bus) explain(ctx context.Context, failed failure) error {
	code := status.Code(failed.err)
	failed.ended = endOf(ctx, code)
	if failed.outcome != atmostonce.Executed && b.ended(ctx, code) {
		failed.unavailable, failed.written = nil, false
		failed.err = callerr.New(status.New(codes.Canceled, callerr.ErrClosed.Error()), atmostonce.Unknown, failed.rpc+": "+callerr.ErrClosed.Error(), callerr.ErrClosed, failed.err)
	}
	return failed.asError()
}
