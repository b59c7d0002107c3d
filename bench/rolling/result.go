package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/framework"
)

// result is the result of a run.
type result struct {
	counts

	report   executionlog.Report
	ends     []time.Duration // how long each instance took to end
	took     time.Duration
	retries  uint64
	settings settings
}

func newResult(report executionlog.Report, counts counts, ends []time.Duration, took time.Duration, settings settings, apis map[string]framework.APIStats) result {
	out := result{report: report, counts: counts, ends: slices.Sorted(slices.Values(ends)), took: took, settings: settings}
	for _, api := range apis {
		out.retries += api.Retries
	}
	return out
}

// err returns what was violated, nil if nothing was.
func (r result) err() error {
	var errs []error
	if failed := sum(r.failed); failed > 0 {
		errs = append(errs, fmt.Errorf("%d calls failed", failed))
	}
	if cut := sum(r.cut); cut > 0 {
		errs = append(errs, fmt.Errorf("%d streams were not told of a shutdown, but cut off", cut))
	}
	errs = append(errs, r.report.Err())
	if want := r.settings.rounds * r.settings.instances; len(r.ends) != want || r.calls == 0 || r.streams == 0 || r.settings.late > 0 && r.plain == 0 {
		errs = append(errs, fmt.Errorf("nothing was proven: there must be %d restarts, calls, and streams that were told", want))
	}
	return errors.Join(errs...)
}

func sum(of map[string]int) (all int) {
	for count := range maps.Values(of) {
		all += count
	}
	return all
}

// String returns the result as lines.
func (r result) String() string {
	var text strings.Builder
	line := func(name, format string, figures ...any) {
		fmt.Fprintf(&text, "%-24s %s\n", name, fmt.Sprintf(format, figures...))
	}
	line("restarts", "%d", len(r.ends))
	if len(r.ends) > 0 {
		line("time of a shutdown", "%v in the middle, %v at most", r.ends[len(r.ends)/2].Round(time.Millisecond), r.ends[len(r.ends)-1].Round(time.Millisecond))
	}
	line("calls", "%d of buses, %d of plain callers", r.calls, r.plain)
	line("calls a second", "%.0f", float64(r.calls+r.plain)/r.took.Seconds())
	line("longest call", "%v", r.longest.Round(time.Millisecond))
	line("retries of buses", "%d", r.retries)
	line("failed calls", "%d", sum(r.failed))
	line("calls that ran twice", "%d", len(r.report.Repeats))
	line("false outcomes", "%d", len(r.report.FalseOutcomes))
	line("streams told", "%d", r.streams)
	line("streams cut off", "%d", sum(r.cut))
	for _, errors := range []map[string]int{r.failed, r.cut} {
		for _, name := range slices.Sorted(maps.Keys(errors)) {
			line("error", "%d %s", errors[name], name)
		}
	}
	return text.String()
}
