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
)

const (
	watchPath = grpc_health_v1.Health_Watch_FullMethodName
	checkPath = grpc_health_v1.Health_Check_FullMethodName

	// firstAnswer is how long an instance has to answer Watch before Check is
	// called instead: some proxies hold replies of streams back.
	firstAnswer = 2 * time.Second
	// A connection is probed when nothing was answered on it between two looks,
	// and the answer may take probeTimeout. So one that goes silent right after an
	// answer is found out after two looks and the timeout: within 30 s.
	lookEvery, probeTimeout = 8 * time.Second, 10 * time.Second
	// mostFailures is how many streams in a row may fail without a message
	// before the instance counts as one that does not serve.
	mostFailures = 3
)

// watchBackoff spaces out streams that ended.
var watchBackoff = backoff.Policy{Base: time.Second, Max: 30 * time.Second}

// ErrSilent is why a connection is not used on which nothing is answered.
var ErrSilent = errors.New("the connection is open, but nothing is answered on it")

// watchBuilder builds the watch of a connection.
type watchBuilder boundSubConn

// Build implements [balancer.ProducerBuilder]. grpc-go closes what it returns
// when the connection ends.
func (b *watchBuilder) Build(over any) (balancer.Producer, func()) {
	bound := (*boundSubConn)(b)
	conn, ok := over.(grpc.ClientConnInterface)
	if !ok { // grpc-go always passes one
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(bound.policy.life)
	w := &watch{bound: bound, conn: conn, ctx: ctx}
	bound.mu.Lock()
	bound.watch = w
	bound.mu.Unlock()
	bound.policy.running.Go(w.run)
	// It does not wait for run, which may wait for a lock of grpc-go's that the
	// caller has: the policy's Close does.
	return w, cancel
}

// watch asks the health service at the other end of a connection who answers
// there and whether it serves, until the connection ends. It takes the place of
// grpc-go's own health check, which hides the header that says who answers.
type watch struct {
	bound *boundSubConn
	conn  grpc.ClientConnInterface
	ctx   context.Context //nolint:containedctx // it is a running thing

	// known is whether anything was reported, and lost whether that was last that
	// nothing is answered.
	known, lost atomic.Bool
	// probing is whether keep is at work.
	probing atomic.Bool
	// failures counts streams in a row that ended without a message. It is run's.
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

// errLate is of a stream that had no message in time.
var errLate = errors.New("no answer in time")

// stream opens a stream and reports its messages until it ends. Of the first one
// the first message must come within firstAnswer.
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

// receive receives the messages of a stream; late, if there is one, is stopped at
// the first.
func (w *watch) receive(ctx context.Context, late *time.Timer) (answered bool, err error) {
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, watchPath)
	if err != nil {
		return false, err
	}
	if err := stream.SendMsg(&grpc_health_v1.HealthCheckRequest{}); err != nil {
		return false, stream.RecvMsg(new(grpc_health_v1.HealthCheckResponse)) // which says why
	}
	for {
		reply := new(grpc_health_v1.HealthCheckResponse)
		if err := stream.RecvMsg(reply); err != nil {
			return answered, err
		}
		if late != nil {
			late.Stop()
		}
		answered = true
		header, _ := stream.Header() // it came before the message
		w.report(header, healthOf(reply))
	}
}

// check calls Check, of an instance that did not answer Watch.
func (w *watch) check() {
	header, reply, err := w.probe()
	switch {
	case w.ctx.Err() != nil:
	case err == nil:
		w.report(header, healthOf(reply))
	case errors.Is(err, ErrSilent):
		w.silent()
	case status.Code(err) == codes.Unimplemented:
		w.report(header, serves)
	default:
		w.report(header, unhealthy(err))
	}
}

// probe calls Check. Its error is ErrSilent when there was no answer.
func (w *watch) probe() (metadata.MD, *grpc_health_v1.HealthCheckResponse, error) {
	ctx, cancel := context.WithTimeout(w.ctx, probeTimeout)
	defer cancel()
	stream, err := w.conn.NewStream(ctx, &grpc.StreamDesc{}, checkPath)
	if err != nil {
		return nil, nil, err // it waited for other streams to end, or the connection ended
	}
	reply := new(grpc_health_v1.HealthCheckResponse)
	err = stream.SendMsg(&grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		err = stream.RecvMsg(reply)
	}
	if err != nil && ctx.Err() != nil && w.ctx.Err() == nil {
		return nil, nil, ErrSilent
	}
	header, _ := stream.Header()
	return header, reply, err
}

// keep probes the connection, unless an answer came on it since the last look.
func (w *watch) keep() {
	if w.bound.alive.Swap(false) || !w.probing.CompareAndSwap(false, true) {
		return
	}
	defer w.probing.Store(false)
	header, reply, err := w.probe()
	w.bound.alive.Store(!errors.Is(err, ErrSilent))
	switch {
	case w.ctx.Err() != nil:
	case errors.Is(err, ErrSilent):
		w.silent()
	case !w.lost.Load():
	case err == nil:
		w.report(header, healthOf(reply))
	default:
		w.report(header, serves) // as before: what it says of Check was no reason not to use it
	}
}

// silent reports that nothing is answered on the connection. An answer after all
// has it used again.
func (w *watch) silent() {
	if w.lost.Load() {
		return
	}
	w.report(nil, balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: ErrSilent})
	w.lost.Store(true)
	if w.bound.observer != nil {
		w.bound.observer.Silent()
	}
}

// failed takes in that a stream ended without a message. What the instance said
// before stands, since a proxy may end streams that are idle, until several in a
// row have failed.
func (w *watch) failed(err error) {
	w.failures++
	if !w.known.Load() || w.failures >= mostFailures {
		w.report(nil, unhealthy(err))
	}
}

// report reports who answers, by a header, and whether it serves.
func (w *watch) report(header metadata.MD, health balancer.SubConnState) {
	w.known.Store(true)
	w.lost.Store(false)
	var incarnation discovery.Incarnation
	if said := header[atmostonce.IncarnationKey]; len(said) == 1 {
		incarnation, _ = discovery.ParseIncarnation(said[0]) // zero if it is none
	}
	w.bound.report(w, incarnation, health)
}

// serves is the health of an instance that serves.
var serves = balancer.SubConnState{ConnectivityState: connectivity.Ready}

func healthOf(reply *grpc_health_v1.HealthCheckResponse) balancer.SubConnState {
	if reply.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
		return serves
	}
	return balancer.SubConnState{
		ConnectivityState: connectivity.TransientFailure,
		ConnectionError:   fmt.Errorf("the instance says that it does not serve now: its health service answers %s", reply.GetStatus()),
	}
}

func unhealthy(err error) balancer.SubConnState {
	return balancer.SubConnState{
		ConnectivityState: connectivity.TransientFailure,
		ConnectionError: fmt.Errorf("the health service of the instance answers %s, %q: an interceptor or proxy must let %s pass",
			status.Code(err), status.Convert(err).Message(), watchPath),
	}
}
