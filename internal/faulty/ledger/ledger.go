package ledger

import (
	"fmt"
	"slices"
	"sync"
)

// Outcome is what a caller was told of a call.
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
	// Unknown is an error that says nothing of whether the handler ran.
	Unknown Outcome = "unknown"
)

// outcomes are all outcomes, in the order of reports.
var outcomes = []Outcome{OK, NotSent, Refused, Executed, Unknown}

// Ledger holds the runs and outcomes of calls. The zero value is ready to use;
// its methods are safe for all goroutines.
type Ledger struct {
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

// Ran notes that the handler of a call began to run.
func (l *Ledger) Ran(callID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.call(callID).runs++
}

// Outcome notes what the caller of a call was told, once a call. What is no
// outcome, or a second one, is an error.
func (l *Ledger) Outcome(callID string, outcome Outcome) error {
	if !slices.Contains(outcomes, outcome) {
		return fmt.Errorf("ledger: call %s: %q is no outcome: give one of %v", callID, outcome, outcomes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	noted := l.call(callID)
	if noted.outcome != "" {
		return fmt.Errorf("ledger: call %s has the outcome %s already: each call needs an id of its own", callID, noted.outcome)
	}
	noted.outcome = outcome
	return nil
}

// Repeatable says that a call may run up to bound times, because its RPC
// declares that this does no harm.
func (l *Ledger) Repeatable(callID string, bound int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.call(callID).bound = bound
}

// Runs gives how often a call ran.
func (l *Ledger) Runs(callID string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found, ok := l.calls[callID]; ok {
		return found.runs
	}
	return 0
}

// call gives the call of an id, and begins one. The lock is held.
func (l *Ledger) call(callID string) *call {
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
