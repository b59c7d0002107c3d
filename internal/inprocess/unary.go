package inprocess

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Unary is a unary call that has not begun.
type Unary struct {
	call

	of       unaryMethod
	handling handling // the context of the handler
	request  payload
	read     bool    // whether the request was read
	reply    payload // set before finished is closed
}

// Unary returns a call of a unary method, which counts as under way. It returns nil if the
// call must go over the network: the server lacks the method or takes no more calls, or the
// call has what the link cannot do as the network does.
func (l *Link) Unary(ctx context.Context, method string, request any, caller Caller) *Unary {
	of, ok := l.server.unary[method]
	if !ok || ctx.Err() != nil {
		return nil
	}
	limits, ok := limitsOf(caller.Options)
	if !ok || validate(caller.Metadata) != nil || !fits(caller.Metadata, l.server.mostMetadata) {
		return nil
	}
	data, err := l.server.encode(request)
	if err != nil || data.size() > min(limits.sent, l.server.mostReceived) || !l.enter() {
		data.free()
		return nil
	}
	return &Unary{call: call{link: l, method: method, caller: caller, limits: limits, finished: newSignal()}, of: of, request: data}
}

// Drop drops a call that is not to begin, because of err.
func (u *Unary) Drop(err error) {
	u.request.free()
	u.link.leave()
	finished(u.caller.Options, err)
}

// Invoke makes the call, until ctx ends or deadline, the zero value of which sets none. own is
// metadata besides the caller's, such as its identity. Invoke calls ended when the call has
// ended for the caller.
func (u *Unary) Invoke(ctx context.Context, deadline time.Time, own Pair, reply any, ended func(balancer.DoneInfo)) error {
	u.handling.begin(&u.call, own)
	first := deadline
	if of, ok := ctx.Deadline(); ok && (deadline.IsZero() || !deadline.Before(of)) {
		first, deadline = of, time.Time{} // ctx ends then
	}
	if !first.IsZero() {
		u.handling.deadline = first.Add(lag)
	}
	u.ctx, u.ending = &u.handling, &u.handling
	u.link.server.serve(u)
	err := u.wait(ctx, deadline)
	if err == nil {
		err = u.receive(reply)
	}
	ended(u.info(err))
	fill(u.caller.Options, u.arrivedHeader, u.arrivedTrailer, &u.link.peer)
	finished(u.caller.Options, err)
	return err
}

// signals are channels for the ends of unary calls, on each of which one is sent.
var signals = sync.Pool{New: func() any { return make(chan struct{}, 1) }}

func newSignal() chan struct{} {
	signal, _ := signals.Get().(chan struct{})
	return signal
}

// receive returns the error with which the server ended the call, or stores the reply.
func (u *Unary) receive(reply any) error {
	switch {
	case u.status == nil:
		return u.link.server.decode(u.reply, u.limits.received, reply)
	case u.status.Code() == codes.OK: // the handler failed with it
		return errNoMessage
	default:
		return u.status.Err()
	}
}

// wait waits for the end of the call. It returns an error if the caller does not wait for it
// any more: ctx has ended, or deadline has passed, the zero value of which sets none.
func (u *Unary) wait(ctx context.Context, deadline time.Time) error {
	var passed <-chan time.Time
	if !deadline.IsZero() {
		timer := u.link.server.startTimer(time.Until(deadline))
		defer u.link.server.stopTimer(timer)
		passed = timer.C
	}
	var err error
	canceled := false
	select {
	case <-u.finished:
		signals.Put(u.finished) // it is empty, and nothing is sent on it any more
		return nil
	case <-ctx.Done():
		err, canceled = status.FromContextError(ctx.Err()).Err(), true
	case <-passed:
		err, canceled = status.FromContextError(context.DeadlineExceeded).Err(), true
	case <-u.caller.Life.Done():
		err = errClosed
	case <-u.link.server.life.Done():
		err = errEnded
	}
	if !u.abandon(canceled) {
		return nil
	}
	return err
}

// serve serves the call.
func (u *Unary) serve() {
	defer u.link.leave() // also if the handler ends this goroutine
	defer u.handling.end()
	reply, err := u.of.handler(u.of.impl, u.ctx, u.decode, u.link.server.aroundUnary)
	if err == nil {
		u.reply, err = u.link.server.encode(reply)
	}
	if limit := u.link.server.mostSent; err == nil && u.reply.size() > limit {
		err = tooLarge(u.reply.size(), limit)
	}
	u.finish(err)
}

// decode reads the request, once.
func (u *Unary) decode(request any) error {
	if u.read {
		return io.EOF
	}
	u.read = true
	return u.link.server.decode(u.request, u.link.server.mostReceived, request)
}

var _ grpc.ServerTransportStream = (*Unary)(nil)
