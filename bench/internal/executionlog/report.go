package executionlog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// shown is how many violations a report's text lists.
const shown = 10

// Report is the result of Check.
type Report struct {
	// Calls is the number of calls whose outcome was recorded.
	Calls int
	// Runs is the number of runs of all calls.
	Runs int
	// Outcomes counts calls by their outcomes.
	Outcomes map[Outcome]int
	// Repeats are calls that ran more often than they may: twice or more, or
	// beyond the bound of one that is repeatable.
	Repeats []Violation
	// FalseOutcomes are calls whose callers received a false outcome.
	FalseOutcomes []Violation
	// Unended is the number of calls that ran and have no outcome.
	Unended int
	// Repeated is the number of repeatable calls that ran twice or more.
	Repeated int
	// Torn is the number of lines that a kill cut short: those handlers did
	// not go on.
	Torn int
}

// Violation is a call that breaks the promise.
type Violation struct {
	CallID  string
	Runs    int
	Outcome Outcome
}

// String returns the call, its outcome and its runs.
func (f Violation) String() string {
	return fmt.Sprintf("%s: outcome %s, ran %d times", f.CallID, cmp.Or(f.Outcome, "missing"), f.Runs)
}

// Check checks all calls: each ran at most once, or as often as it is
// repeatable; NotSent and Refused did not run; Executed and OK ran.
func (l *Log) Check() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	report := Report{Outcomes: make(map[Outcome]int), Torn: l.torn}
	for id, noted := range l.calls {
		add(&report, id, noted)
	}
	byID := func(a, b Violation) int { return cmp.Compare(a.CallID, b.CallID) }
	slices.SortFunc(report.Repeats, byID)
	slices.SortFunc(report.FalseOutcomes, byID)
	return report
}

// add adds a call to a report.
func add(r *Report, id string, noted *call) {
	r.Runs += noted.runs
	violation := Violation{CallID: id, Runs: noted.runs, Outcome: noted.outcome}
	switch {
	case noted.runs > max(noted.bound, 1):
		r.Repeats = append(r.Repeats, violation)
	case noted.runs > 1:
		r.Repeated++
	}
	if noted.outcome == "" {
		if noted.runs > 0 {
			r.Unended++
		}
		return
	}
	r.Calls++
	r.Outcomes[noted.outcome]++
	if !noted.outcome.holds(noted.runs) {
		r.FalseOutcomes = append(r.FalseOutcomes, violation)
	}
}

// holds reports whether an outcome is true of a call with so many runs. Too many runs
// are another violation.
func (o Outcome) holds(runs int) bool {
	switch o {
	case NotSent, Refused:
		return runs == 0
	case Executed, OK:
		return runs > 0
	default:
		return true
	}
}

// Err returns an error that lists violations, nil if the report has none.
func (r Report) Err() error {
	if len(r.Repeats) == 0 && len(r.FalseOutcomes) == 0 {
		return nil
	}
	return fmt.Errorf("execution log: %d calls ran more often than they may, and %d outcomes were false:%s%s",
		len(r.Repeats), len(r.FalseOutcomes), list(r.Repeats), list(r.FalseOutcomes))
}

// String returns the report as lines.
func (r Report) String() string {
	var text strings.Builder
	line := func(name string, figure any) { fmt.Fprintf(&text, "%-24s %v\n", name, figure) }
	line("calls", r.Calls)
	line("runs", r.Runs)
	line("runs of two or more", fmt.Sprint(len(r.Repeats), list(r.Repeats)))
	for _, outcome := range outcomes {
		line("outcome "+string(outcome), r.Outcomes[outcome])
	}
	line("false outcomes", fmt.Sprint(len(r.FalseOutcomes), list(r.FalseOutcomes)))
	line("repeatable, repeated", r.Repeated)
	line("ran, without outcome", r.Unended)
	line("cut short by a kill", r.Torn)
	return text.String()
}

func list(violations []Violation) string {
	var text strings.Builder
	for i, violation := range violations {
		if i == shown {
			text.WriteString("\n  …")
			break
		}
		text.WriteString("\n  " + violation.String())
	}
	return text.String()
}
