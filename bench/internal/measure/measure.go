// Package measure compares ways to make the same call: wall time, CPU and allocations of
// the caller and of the server, which are separate processes.
//
// The ways take turns of some milliseconds, so that other load of the machine affects all
// of them alike. Figures are medians over the turns. Ratios are medians of the ratios
// within a turn.
package measure

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Way is a way to make a call.
type Way struct {
	Name   string
	Server *Server
	Call   func(context.Context) error
	Turns  []Turn
}

// Turn is the average cost of a call over one turn.
type Turn struct {
	Wall, CallerCPU, ServerCPU   float64 // nanoseconds
	CallerMallocs, ServerMallocs float64
	CallerBytes, ServerBytes     float64 // allocated
}

// CPU returns the CPU time of both processes.
func (t Turn) CPU() float64 { return t.CallerCPU + t.ServerCPU }

// Figure is a printed figure of a turn.
type Figure struct {
	Name string
	Unit string
	Of   func(Turn) float64
}

// Figures are all printed figures.
var Figures = []Figure{
	{"wall time", "µs", func(t Turn) float64 { return t.Wall / 1000 }},
	{"CPU, both", "µs", func(t Turn) float64 { return t.CPU() / 1000 }},
	{"CPU, caller", "µs", func(t Turn) float64 { return t.CallerCPU / 1000 }},
	{"CPU, server", "µs", func(t Turn) float64 { return t.ServerCPU / 1000 }},
	{"allocations, caller", "", func(t Turn) float64 { return t.CallerMallocs }},
	{"allocations, server", "", func(t Turn) float64 { return t.ServerMallocs }},
	{"bytes, caller", "", func(t Turn) float64 { return t.CallerBytes }},
	{"bytes, server", "", func(t Turn) float64 { return t.ServerBytes }},
}

// TakeTurns measures ways by turns, each with a number of callers at once.
func TakeTurns(ctx context.Context, ways []*Way, callers, turns int, length time.Duration) error {
	for i := range turns + 1 {
		for j := range ways {
			way := ways[(i+j)%len(ways)]
			measured, err := way.measure(ctx, callers, length)
			if err != nil {
				return fmt.Errorf("%s: %w", way.Name, err)
			}
			if i > 0 { // the first turn warms up
				way.Turns = append(way.Turns, measured)
			}
		}
	}
	return nil
}

// measure makes calls for a turn.
func (w *Way) measure(ctx context.Context, callers int, length time.Duration) (Turn, error) {
	serverBefore, err := w.Server.Used()
	if err != nil {
		return Turn{}, err
	}
	callerBefore, begin := Use(), time.Now()
	var (
		running sync.WaitGroup
		over    atomic.Bool
		calls   atomic.Int64
		failed  atomic.Pointer[error]
	)
	timer := time.AfterFunc(length, func() { over.Store(true) })
	defer timer.Stop()
	for range callers {
		running.Go(func() {
			made := int64(0)
			for !over.Load() {
				if err := w.Call(ctx); err != nil {
					failed.Store(&err)
					break
				}
				made++
			}
			calls.Add(made)
		})
	}
	running.Wait()
	wall, callerAfter := time.Since(begin), Use()
	if err := failed.Load(); err != nil {
		return Turn{}, *err
	}
	serverAfter, err := w.Server.Used()
	if err != nil {
		return Turn{}, err
	}
	measured := costOf(calls.Load(), callerAfter.since(callerBefore), serverAfter.since(serverBefore))
	measured.Wall = float64(wall) * float64(callers) / float64(calls.Load())
	return measured, nil
}

// Calls makes calls one after the other, and returns what they cost.
func (w *Way) Calls(ctx context.Context, calls int) (Turn, error) {
	serverBefore, err := w.Server.Used()
	if err != nil {
		return Turn{}, err
	}
	callerBefore := Use()
	for range calls {
		if err := w.Call(ctx); err != nil {
			return Turn{}, err
		}
	}
	callerAfter := Use()
	serverAfter, err := w.Server.Used()
	if err != nil {
		return Turn{}, err
	}
	return costOf(int64(calls), callerAfter.since(callerBefore), serverAfter.since(serverBefore)), nil
}

// costOf returns the average cost of calls from what both processes used for all.
func costOf(calls int64, caller, server Usage) Turn {
	n := float64(calls)
	return Turn{
		CallerCPU: float64(caller.CPU) / n, ServerCPU: float64(server.CPU) / n,
		CallerMallocs: float64(caller.Mallocs) / n, ServerMallocs: float64(server.Mallocs) / n,
		CallerBytes: float64(caller.Bytes) / n, ServerBytes: float64(server.Bytes) / n,
	}
}

// Median returns the median of a figure.
func (w *Way) Median(of func(Turn) float64) float64 {
	values := make([]float64, len(w.Turns))
	for i, t := range w.Turns {
		values[i] = of(t)
	}
	return middle(values)
}

// Ratio returns the median of the ratios of a figure to that of another way in each turn.
func (w *Way) Ratio(to *Way, of func(Turn) float64) float64 {
	ratios := make([]float64, len(w.Turns))
	for i := range w.Turns {
		ratios[i] = of(w.Turns[i]) / of(to.Turns[i])
	}
	return middle(ratios)
}

func middle(values []float64) float64 {
	slices.Sort(values)
	if half := len(values) / 2; len(values)%2 == 0 {
		return (values[half-1] + values[half]) / 2
	}
	return values[len(values)/2]
}
