package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/bench/internal/replay"
)

// mostRefused is the share of the calls that may be refused.
const mostRefused = 0.05

// result is the result of a run.
type result struct {
	report          executionlog.Report
	refused         int
	errors          map[string]int
	took            time.Duration
	killed, stopped int
	replays         replays
	settled         settled
	cut, sockets    int64 // connections that were cut, and that were made over unix sockets
	// linked is how many calls of instances in this process ran without the network.
	linked      int64
	wantsLinked bool
}

// replays counts the copies by their answers.
type replays struct {
	sent, ok, refused, lost, other int
	wanted                         bool
}

func judge(report executionlog.Report, callers *callers, played []replay.Played, settings settings) result {
	out := result{report: report, refused: callers.refused, errors: callers.codes, took: callers.took, settled: callers.settled}
	out.replays.wanted = settings.replayed > 0
	out.replays.sent = len(played)
	for _, each := range played {
		switch {
		case each.Result.Err != nil:
			out.replays.lost++
		case each.Result.Code == codes.OK:
			out.replays.ok++
		case each.Result.Code == codes.FailedPrecondition:
			out.replays.refused++
		default:
			out.replays.other++
		}
	}
	return out
}

// err returns what was violated, nil if nothing was.
func (r result) err() error {
	var errs []error
	if repeats := len(r.report.Repeats); repeats > 0 {
		errs = append(errs, fmt.Errorf("%d calls ran more often than they may", repeats))
	}
	if falsehoods := len(r.report.FalseOutcomes); falsehoods > 0 {
		errs = append(errs, fmt.Errorf("%d outcomes were false", falsehoods))
	}
	if share := r.refusedShare(); share > mostRefused {
		errs = append(errs, fmt.Errorf("%.1f %% of the calls were refused, more than %.0f", 100*share, 100*mostRefused))
	}
	if r.report.Outcomes[executionlog.OK] == 0 || r.killed == 0 || r.stopped == 0 || r.replays.wanted && r.replays.sent == 0 || r.wantsLinked && r.linked == 0 {
		errs = append(errs, errors.New("nothing was proven: there must be calls that succeed, instances killed and stopped, and replays or calls without the network: let it run for longer"))
	}
	return errors.Join(errs...)
}

func (r result) refusedShare() float64 {
	return float64(r.refused) / float64(max(r.report.Calls, 1))
}

// String returns the result as lines.
func (r result) String() string {
	var text strings.Builder
	text.WriteString(r.report.String())
	line := func(name, format string, figures ...any) {
		fmt.Fprintf(&text, "%-24s %s\n", name, fmt.Sprintf(format, figures...))
	}
	line("refused calls", "%d (%.2f %%)", r.refused, 100*r.refusedShare())
	line("calls a second", "%.0f", float64(r.report.Calls)/r.took.Seconds())
	line("instances killed", "%d", r.killed)
	line("instances stopped", "%d", r.stopped)
	line("replays", "%d: %d answered OK, %d refused, %d other errors, %d lost", r.replays.sent, r.replays.ok, r.replays.refused, r.replays.other, r.replays.lost)
	line("connections cut", "%d", r.cut)
	line("over unix sockets", "%d", r.sockets)
	line("without the network", "%d runs", r.linked)
	line("settled calls", "%s", &r.settled)
	for _, name := range slices.Sorted(maps.Keys(r.errors)) {
		line("error", "%d %s", r.errors[name], name)
	}
	return text.String()
}
