package main

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/observe"
)

// load is an open-loop load: calls begin at fixed times, whether earlier calls have ended or
// not. The latency of a call counts from the time at which it was to begin, so a service
// that is slow for a while cannot hide that by delaying the calls that follow (coordinated
// omission).
type load struct {
	// rate is how many calls begin in a second, for the duration.
	rate     float64
	duration time.Duration
	// inFlight is how many calls are in flight at most. Others wait for their turn.
	inFlight int
	// call makes a call.
	call func(context.Context) error

	// mu guards the fields below.
	mu       sync.Mutex
	measured measured
}

// measured is what a load has measured.
type measured struct {
	// planned is how many calls were to begin, and begun how many did. The others waited
	// until the end.
	planned, begun int
	// flying is how many calls are in flight.
	flying int
	// interrupted is how many calls were in flight when the load was interrupted.
	interrupted int
	// latencies are those of the calls that may have run, in microseconds. A call that was
	// not run ends early and would make the service look fast.
	latencies *hdrhistogram.Histogram
	outcomes  map[outcomeKind]int
	// took is the time from the begin of the load to its last reply.
	took time.Duration
}

// outcomeKind is a kind of how calls end.
type outcomeKind struct{ Outcome, Code string }

// Latencies are kept from 1 µs to 10 min, with three digits.
const (
	lowestLatency  = 1
	highestLatency = int64(10 * time.Minute / time.Microsecond)
	latencyDigits  = 3
)

func newLoad(rate float64, duration time.Duration, inFlight int, call func(context.Context) error) *load {
	return &load{rate: rate, duration: duration, inFlight: inFlight, call: call, measured: measured{
		latencies: hdrhistogram.New(lowestLatency, highestLatency, latencyDigits), outcomes: make(map[outcomeKind]int),
	}}
}

// run makes the calls, until all have ended or ctx has.
func (l *load) run(ctx context.Context) {
	var calls sync.WaitGroup
	slots := make(chan struct{}, l.inFlight)
	began := time.Now()
	total := max(1, int(l.rate*l.duration.Seconds()))
	interval := time.Duration(float64(time.Second) / l.rate)
	timer := time.NewTimer(0)
	defer timer.Stop()
	end := began.Add(l.duration)
	for i := range total {
		intended := began.Add(time.Duration(i) * interval)
		timer.Reset(time.Until(intended))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		l.plan()
		if !l.slot(ctx, slots, end) {
			if ctx.Err() == nil {
				l.skip(total - i - 1)
			}
			break
		}
		calls.Go(func() {
			err := l.call(ctx)
			l.ended(ctx, time.Since(intended), err)
			<-slots
		})
	}
	calls.Wait()
	l.mu.Lock()
	l.measured.took = time.Since(began)
	l.mu.Unlock()
}

// slot waits until a call may begin, but not after the end.
func (l *load) slot(ctx context.Context, slots chan struct{}, end time.Time) bool {
	select {
	case slots <- struct{}{}:
	default:
		timer := time.NewTimer(time.Until(end))
		defer timer.Stop()
		select {
		case slots <- struct{}{}:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measured.begun++
	l.measured.flying++
	return true
}

func (l *load) plan() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measured.planned++
}

// skip counts calls that never begin, because the end has come.
func (l *load) skip(more int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measured.planned += more
}

// ended counts a call that has ended.
func (l *load) ended(ctx context.Context, latency time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measured.flying--
	if err != nil && ctx.Err() != nil {
		l.measured.interrupted++
		return
	}
	outcome := framework.OutcomeOf(err)
	l.measured.outcomes[outcomeKind{observe.OutcomeName(outcome), observe.StatusName(status.Code(err))}]++
	if outcome == framework.Executed || outcome == framework.Unknown {
		_ = l.measured.latencies.RecordValue(min(max(latency.Microseconds(), lowestLatency), highestLatency)) // it is in the range
	}
}

// now returns what was measured so far. The histogram is a copy.
func (l *load) now() measured {
	l.mu.Lock()
	defer l.mu.Unlock()
	copied := l.measured
	copied.latencies = hdrhistogram.Import(l.measured.latencies.Export())
	copied.outcomes = maps.Clone(l.measured.outcomes)
	return copied
}
