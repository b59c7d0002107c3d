package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/backoff"
	"github.com/onecall-dev/onecall/internal/inprocess"
)

const (
	watchPath = grpc_health_v1.Health_Watch_FullMethodName
	checkPath = grpc_health_v1.Health_Check_FullMethodName

	// firstAnswer is how long an instance has to answer Watch before Check is
	// called instead: some proxies hold replies of streams back.
	firstAnswer = 2 * time.Second
	// Each probeEvery, a connection is probed if nothing was answered on it since the
	// last time. The answer may take probeTimeout. So a connection that goes silent
	// right after an answer counts as silent within 30 s.
	probeEvery, probeTimeout = 8 * time.Second, 10 * time.Second
	// mostFailures is how many streams in a row may fail without a message
	// before the instance counts as one that does not serve.
	mostFailures = 3
)

// watchBackoff is how long to wait after a stream ended.
var watchBackoff = backoff.Policy{Base: time.Second, Max: 30 * time.Second}

// errSilent is the error of a connection on which nothing is answered.
var errSilent = errors.New("the connection is open, but nothing is answered on it")

// watchBuilder builds the watch of a connection.
type watchBuilder boundSubConn

// Build implements [balancer.ProducerBuilder]. grpc-go calls the returned function
// when the connection ends.
func (b *watchBuilder) Build(over any) (balancer.Producer, func()) {
	bound := (*boundSubConn)(b)
	conn, ok := over.(grpc.ClientConnInterface)
	if !ok { // grpc-go always passes one
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(bound.policy.ctx)
	w := &watch{bound: bound, conn: conn, ctx: ctx}
	bound.mu.Lock()
	bound.watch = w
	bound.mu.Unlock()
	bound.policy.running.Go(w.run)
	// The function must not wait for run, which may wait for a lock that grpc-go
	// holds now. The policy's Close waits for it.
	return w, cancel
}

// watch calls the health service at the other end of a connection, until the
// connection ends, to find out which instance answers and whether it serves. It
// replaces grpc-go's own health check, which hides the header that names the
// instance.
type watch struct {
	bound *boundSubConn
	conn  grpc.ClientConnInterface
	ctx   context.Context //nolint:containedctx // it is a running thing

	// link is that of the connection, nil if its other end is not in this process.
	link atomic.Pointer[link]
	// known is whether a state was reported, and lost whether the last one was that
	// nothing is answered.
	known, lost atomic.Bool
	// probing is whether probe runs.
	probing atomic.Bool
	// failures counts the streams in a row that ended without a message. Only run
	// uses it.
	failures int
}

// run watches until the connection ends, or the instance has no health service.
func (w *watch) run() {
	for first := true; ; first = false {
		answered, err := w.stream(first)
		switch {
		case w.ctx.Err() != nil:
			return
		case status.Code(err) == codes.Unimplemented:
			w.report(nil, serves)
			return
		case answered:
			w.failures = 0
		case first && errors.Is(err, errLate):
			w.check()
		default:
			w.failed(err)
		}
		if watchBackoff.Wait(w.ctx, w.failures+1) != nil {
			return
		}
	}
}

// errLate is the error of a stream that had no message in time.
var errLate = errors.New("no answer in time")

// stream opens a stream and reports its messages until it ends. The first message of
// the first stream must arrive within firstAnswer.
func (w *watch) stream(first bool) (answered bool, err error) {
	ctx, cancel := context.WithCancelCause(w.ctx)
	defer cancel(nil)
	if !first {
		return w.receive(ctx, nil)
	}
	late := time.AfterFunc(firstAnswer, func() { cancel(errLate) })
	defer late.Stop()
	answered, err = w.receive(ctx, late)
	if !answered && errors.Is(context.Cause(ctx), errLate) {
		err = errLate
	}
	return answered, err
}

// receive opens a stream and reports its messages. The first one stops the timer late,
// unless it is nil.
func (w *watch) receive(ctx context.Context, late *time.Timer) (answered bool, err error) {
	offer := w.offer()
	defer offer.Withdraw()
	stream, err := w.conn.NewStream(offer.Context(ctx), &grpc.StreamDesc{ServerStreams: true}, watchPath)
	if err != nil {
		return false, err
	}
	if err := stream.SendMsg(&grpc_health_v1.HealthCheckRequest{}); err != nil {
		return false, stream.RecvMsg(new(grpc_health_v1.HealthCheckResponse)) // it returns the cause
	}
	for {
		reply := new(grpc_health_v1.HealthCheckResponse)
		if err := stream.RecvMsg(reply); err != nil {
			return answered, err
		}
		if late != nil {
			late.Stop()
		}
		header, _ := stream.Header() // it came before the message
		if !answered {
			w.linkTo(offer, stream.Context(), incarnationIn(header))
		}
		answered = true
		w.report(header, healthOf(reply))
	}
}

// offer returns an offer to leave the network out, or nil if none is to be made.
func (w *watch) offer() *inprocess.Offer {
	if w.bound.channel == nil || w.link.Load() != nil {
		return nil
	}
	return inprocess.NewOffer()
}

// linkTo sets the link, if the instance has taken an offer. ctx is that of the stream with
// which the offer was sent.
func (w *watch) linkTo(offer *inprocess.Offer, ctx context.Context, to discovery.Incarnation) { //nolint:revive // the context is the offer's
	offer.Withdraw()
	if found := offer.Link(ctx); found != nil && !to.IsZero() {
		w.link.Store(&link{found, to})
	}
}

// check calls Check of an instance that did not answer Watch, and reports the result.
func (w *watch) check() {
	header, reply, err := w.callCheck()
	switch {
	case w.ctx.Err() != nil:
	case err == nil:
		w.report(header, healthOf(reply))
	case errors.Is(err, errSilent):
		w.silent()
	case status.Code(err) == codes.Unimplemented:
		w.report(header, serves)
	default:
		w.report(header, unhealthy(err))
	}
}

// callCheck calls Check. It returns errSilent if there was no answer.
func (w *watch) callCheck() (metadata.MD, *grpc_health_v1.HealthCheckResponse, error) {
	ctx, cancel := context.WithTimeout(w.ctx, probeTimeout)
	defer cancel()
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{}, checkPath)
	if err != nil {
		return nil, nil, err // no stream was free, or the connection has ended
	}
	reply := new(grpc_health_v1.HealthCheckResponse)
	err = stream.SendMsg(&grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		err = stream.RecvMsg(reply)
	}
	if err != nil && ctx.Err() != nil && w.ctx.Err() == nil {
		return nil, nil, errSilent
	}
	header, _ := stream.Header()
	return header, reply, err
}

// probe calls Check, unless anything was answered on the connection since the last
// probe, and reports whether the connection is silent.
func (w *watch) probe() {
	if w.bound.alive.Swap(false) || !w.probing.CompareAndSwap(false, true) {
		return
	}
	defer w.probing.Store(false)
	header, reply, err := w.callCheck()
	w.bound.alive.Store(!errors.Is(err, errSilent))
	switch {
	case w.ctx.Err() != nil:
	case errors.Is(err, errSilent):
		w.silent()
	case !w.lost.Load():
	case err == nil:
		w.report(header, healthOf(reply))
	default:
		w.report(header, serves) // it answers again, and was in use although Check fails
	}
}

// silent reports that nothing is answered on the connection. It is used again once
// anything is answered.
func (w *watch) silent() {
	if w.lost.Load() {
		return
	}
	w.report(nil, balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: errSilent})
	w.lost.Store(true)
	if w.bound.observer != nil {
		w.bound.observer.Silent()
	}
}

// failed records that a stream ended without a message. The last report counts until
// several streams in a row have failed, because a proxy may end idle streams.
func (w *watch) failed(err error) {
	w.failures++
	if !w.known.Load() || w.failures >= mostFailures {
		w.report(nil, unhealthy(err))
	}
}

// report reports the instance that a header names, and whether it serves.
func (w *watch) report(header metadata.MD, health balancer.SubConnState) {
	w.known.Store(true)
	w.lost.Store(false)
	if settles := header[atmostonce.SettlesKey]; len(settles) == 1 {
		w.bound.settles.Store(settles[0] == atmostonce.SettlesAny)
	}
	w.bound.report(w, incarnationIn(header), health)
}

// incarnationIn returns the incarnation that a header names, zero if it names none.
func incarnationIn(header metadata.MD) (incarnation discovery.Incarnation) {
	if from := header[atmostonce.IncarnationKey]; len(from) == 1 {
		incarnation, _ = discovery.ParseIncarnation(from[0]) // zero if it is malformed
	}
	return incarnation
}

// serves is the health of an instance that serves.
var serves = balancer.SubConnState{ConnectivityState: connectivity.Ready}

// healthOf returns the health that a reply says.
func healthOf(reply *grpc_health_v1.HealthCheckResponse) balancer.SubConnState {
	if reply.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
		return serves
	}
	return balancer.SubConnState{
		ConnectivityState: connectivity.TransientFailure,
		ConnectionError:   &UnhealthyError{fmt.Sprintf("the instance says that it does not serve now: its health service answers %s", reply.GetStatus())},
	}
}

// unhealthy returns the health of an instance whose health service fails.
func unhealthy(err error) balancer.SubConnState {
	return balancer.SubConnState{
		ConnectivityState: connectivity.TransientFailure,
		ConnectionError: &UnhealthyError{fmt.Sprintf("the health service of the instance answers %s, %q: an interceptor or proxy must let %s pass",
			status.Code(err), status.Convert(err).Message(), watchPath)},
	}
}

// UnhealthyError says why an instance is not called that could be connected to.
type UnhealthyError struct{ problem string }

// Error implements error.
func (e *UnhealthyError) Error() string { return e.problem }
