package executionlog

import (
	"fmt"
	"slices"
	"sync"
)

// Outcome is the outcome of a call, as its caller received it.
type Outcome string

// The outcomes.
const (
	// OK is a reply: the handler ran.
	OK Outcome = "ok"
	// NotSent is an error before anything was sent: the handler never runs.
	NotSent Outcome = "not_sent"
	// Refused is an error in place of the handler, which never runs.
	Refused Outcome = "refused"
	// Executed is the handler's error: it ran.
	Executed Outcome = "executed"
	// Unknown is an error that does not say whether the handler ran.
	Unknown Outcome = "unknown"
)

// outcomes are all outcomes, in the order of reports.
var outcomes = []Outcome{OK, NotSent, Refused, Executed, Unknown}

// Log holds the runs and outcomes of calls. The zero value is ready to use;
// its methods are safe for all goroutines.
type Log struct {
	mu    sync.Mutex // guards calls and torn
	calls map[string]*call
	torn  int
}

// call is what is known of one call.
type call struct {
	runs    int
	bound   int // of runs; 0 is 1
	outcome Outcome
}

// Ran records that the handler of a call started.
func (l *Log) Ran(callID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.call(callID).runs++
}

// Outcome records the outcome of a call. An unknown outcome and a second one of the
// same call are errors.
func (l *Log) Outcome(callID string, outcome Outcome) error {
	if !slices.Contains(outcomes, outcome) {
		return fmt.Errorf("execution log: call %s: %q is no outcome: give one of %v", callID, outcome, outcomes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	noted := l.call(callID)
	if noted.outcome != "" {
		return fmt.Errorf("execution log: call %s has the outcome %s already: each call needs an id of its own", callID, noted.outcome)
	}
	noted.outcome = outcome
	return nil
}

// Repeatable records that a call may run up to bound times, because its RPC declares
// that it is idempotent.
func (l *Log) Repeatable(callID string, bound int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.call(callID).bound = bound
}

// Runs returns how often a call ran.
func (l *Log) Runs(callID string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found, ok := l.calls[callID]; ok {
		return found.runs
	}
	return 0
}

// call returns the call of an id, a new one if there is none. l.mu must be held.
func (l *Log) call(callID string) *call {
	if l.calls == nil {
		l.calls = make(map[string]*call)
	}
	found, ok := l.calls[callID]
	if !ok {
		found = &call{}
		l.calls[callID] = found
	}
	return found
}
