// Package meter counts the calls of services and buses, and their durations.
package meter

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/telemetry"
)

// Side is the side of the calls that are counted.
type Side struct {
	definition telemetry.Definition
	// fails reports whether a code counts as an error.
	fails func(codes.Code) bool
}

// The sides.
var (
	// Server counts the codes as errors that are the service's fault, as the semantic
	// conventions have it.
	Server = Side{telemetry.ServerCallDuration, observe.ServerError}
	// Client counts every code except OK as an error.
	Client = Side{telemetry.ClientCallDuration, func(code codes.Code) bool { return code != codes.OK }}
)

// outcomeCount is how many outcomes there are.
const outcomeCount = int(atmostonce.Executed) + 1

// Set has the counters of the methods of a service or a bus. A nil Set counts nothing.
// Its methods are safe for all goroutines.
type Set struct {
	side  Side
	other Calls

	mu sync.RWMutex // guards methods
	// methods are by gRPC's path.
	methods map[string]*Calls
}

// NewSet returns the counters of one side, nil if there are no metrics.
func NewSet(side Side, metrics *telemetry.Metrics) *Set {
	if metrics == nil {
		return nil
	}
	return &Set{side: side, other: Calls{method: telemetry.OtherMethod}, methods: make(map[string]*Calls)}
}

// Add returns the counters of a method, by gRPC's path. It makes them if there are none, so
// the path must not come from outside. It is for the hot path to keep.
func (s *Set) Add(path string) *Calls {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.methods[path]
	if calls == nil {
		calls = &Calls{method: path[1:]}
		s.methods[path] = calls
	}
	return calls
}

// Of returns the counters of a method, by gRPC's path. They are [Set.Other] if the method
// was not added.
func (s *Set) Of(path string) *Calls {
	if s == nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if calls := s.methods[path]; calls != nil {
		return calls
	}
	return &s.other
}

// Other returns the counters of all methods that the program does not know.
func (s *Set) Other() *Calls {
	if s == nil {
		return nil
	}
	return &s.other
}

// Collect implements [telemetry.Source].
func (s *Set) Collect(add func(telemetry.Metric)) {
	if s == nil {
		return
	}
	metric := telemetry.Metric{Definition: s.side.definition}
	s.mu.RLock()
	for _, calls := range s.methods {
		metric.Points = append(metric.Points, calls.points(s.side)...)
	}
	s.mu.RUnlock()
	metric.Points = append(metric.Points, s.other.points(s.side)...)
	add(metric)
}

// Calls counts the calls of one method by their end. A nil Calls counts nothing.
type Calls struct {
	method string
	// ends are by code and outcome, nil for ends that were not seen yet.
	ends [observe.Statuses][outcomeCount]atomic.Pointer[histogram]
}

// Record counts a call that has ended. It takes no lock, and allocates only at the first
// end of its kind.
func (c *Calls) Record(code codes.Code, outcome atmostonce.Outcome, took time.Duration) {
	if c == nil {
		return
	}
	end := &c.ends[observe.KnownCode(code)][outcome]
	counts := end.Load()
	if counts == nil {
		end.CompareAndSwap(nil, new(histogram))
		counts = end.Load()
	}
	counts.record(took)
}

// points returns the points of the method.
func (c *Calls) points(side Side) (points []telemetry.Point) {
	for i := range c.ends {
		code := codes.Code(i)
		status := observe.StatusName(code)
		for outcome := range c.ends[i] {
			counts := c.ends[i][outcome].Load()
			if counts == nil {
				continue
			}
			point := counts.point()
			point.Attributes = []telemetry.Attribute{
				{Key: telemetry.SystemKey, Value: telemetry.System},
				{Key: telemetry.MethodKey, Value: c.method},
				{Key: telemetry.StatusKey, Value: status},
			}
			if side.fails(code) {
				point.Attributes = append(point.Attributes, telemetry.Attribute{Key: telemetry.ErrorKey, Value: status})
			}
			name := observe.OutcomeName(atmostonce.Outcome(outcome))
			point.Attributes = append(point.Attributes, telemetry.Attribute{Key: telemetry.OutcomeKey, Value: name})
			points = append(points, point)
		}
	}
	return points
}

// Collect adds a service or a bus to metrics, which may be nil, and its registry if that
// has metrics. remove ends that.
func Collect(metrics *telemetry.Metrics, source telemetry.Source, registry any) (remove func()) {
	if metrics == nil {
		return func() {}
	}
	removeSource, removeRegistry := metrics.Add(source), func() {}
	if known, ok := registry.(telemetry.Source); ok && reflect.TypeOf(registry).Comparable() {
		removeRegistry = metrics.Add(known)
	}
	return func() {
		removeSource()
		removeRegistry()
	}
}
