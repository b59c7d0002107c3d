package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/contract"
)

// benchRecord is the result of a load, in the output. Times are in milliseconds.
type benchRecord struct {
	RPC           string             `json:"rpc"`
	Rate          float64            `json:"rate"`
	InFlight      int                `json:"inFlight"`
	Seconds       float64            `json:"seconds"`
	Planned       int                `json:"planned"`
	Begun         int                `json:"begun"`
	Interrupted   int                `json:"interrupted"`
	CallsASecond  float64            `json:"callsPerSecond"`
	Outcomes      []outcomeRecord    `json:"outcomes"`
	LatencyMillis map[string]float64 `json:"latencyMillis"`
	Histogram     []barRecord        `json:"histogram"`
}

// outcomeRecord says how many calls ended so.
type outcomeRecord struct {
	Outcome string `json:"outcome"`
	Code    string `json:"code"`
	Calls   int    `json:"calls"`
}

// barRecord says how many calls took from From to less than To milliseconds.
type barRecord struct {
	From  float64 `json:"fromMillis"`
	To    float64 `json:"toMillis"`
	Calls int64   `json:"calls"`
}

// percentiles are those that are shown.
var percentiles = []struct {
	name string
	of   float64
}{{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}}

// benchFlags are the flags of the command bench.
type benchFlags struct {
	rate     float64
	duration time.Duration
	inFlight int
	timeout  time.Duration
	effects  bool
}

// connectLimit is how long bench waits for a connection to an instance.
const connectLimit = 5 * time.Second

// The bounds of a load: this command finds out how fast an instance answers, and is not made
// to bring one down.
const (
	maxRate     = 100_000
	maxInFlight = 10_000
)

func (f benchFlags) check() error {
	switch {
	case !(f.rate > 0 && f.rate <= maxRate): // NaN too
		return fmt.Errorf("--rate %v: give more than 0 and at most %d calls a second", f.rate, maxRate)
	case f.duration <= 0:
		return fmt.Errorf("--duration %v: give more than 0", f.duration)
	case f.inFlight < 1 || f.inFlight > maxInFlight:
		return fmt.Errorf("--in-flight %d: give 1 to %d", f.inFlight, maxInFlight)
	}
	return nil
}

func (p *program) bench() *cobra.Command {
	flags := benchFlags{rate: 50, duration: 10 * time.Second, inFlight: 100}
	command := &cobra.Command{
		Use:   "bench API.RPC [NAME=TEXT | NAME:=JSON | NAME=@FILE | NAME:=@FILE | -] …",
		Short: "Measure an RPC under a load of a fixed rate",
		Long: `Call an RPC at a fixed rate, and print how long the calls took and how they ended. Parameters
are those of the command call.

The rate does not depend on how fast the calls end (open loop), and the time of a call counts
from when it was to begin. So a service that is slow for a while is seen to be slow. When
--in-flight calls wait for their replies, others wait for them, and that time counts too. Calls
that did not run are counted, but not their times.

Ctrl-C ends the load and prints what was measured. The exit code is 1 if a call failed. An RPC
that may change something is called only with --effects.`,
		Example: `  onecall bench auth.get_user username=admin --rate 200 --duration 30s` + "\n" +
			`  onecall bench auth.get_user username=admin -o json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(); err != nil {
				return usage(err)
			}
			given, input, err := readParameters(args[1:])
			if err == nil && input {
				var more []parameter
				if more, err = readObject(p.in); err == nil {
					given, err = distinct(append(given, more...))
				}
			}
			if err != nil {
				return usage(err)
			}
			return p.withBus(func(_ *etcd.Registry, bus *framework.Bus) error {
				return p.benchOn(cmd.Context(), bus, args[0], given, flags)
			})
		},
		ValidArgsFunction: p.completeCall,
	}
	command.Flags().Float64Var(&flags.rate, "rate", flags.rate, "how many calls begin in a second")
	command.Flags().DurationVar(&flags.duration, "duration", flags.duration, "how long calls begin")
	command.Flags().IntVar(&flags.inFlight, "in-flight", flags.inFlight, "how many calls are in flight at most")
	command.Flags().DurationVar(&flags.timeout, "timeout", 0, "how long a call may take (default: the API's timeout)")
	command.Flags().BoolVar(&flags.effects, "effects", false, "call the RPC though each call may change something")
	return command
}

func (p *program) benchOn(ctx context.Context, bus *framework.Bus, name string, given []parameter, flags benchFlags) error {
	done := p.waiting("connecting to " + name)
	defer done()
	rpc, err := describeRPC(ctx, bus, name)
	if err != nil {
		return err
	}
	switch {
	case rpc.ClientStream || rpc.ServerStream:
		return usage(fmt.Errorf("%s is a stream, and only other RPCs can be measured", name))
	case rpc.Idempotency == contract.IdempotencyUnknown.String() && !flags.effects:
		return usage(fmt.Errorf("%s may change something with each call, because its .proto does not say that it is NO_SIDE_EFFECTS or IDEMPOTENT: "+
			"give --effects if these calls may do that", name))
	}
	args, err := (request{rpc, newTypes(rpc.Parameters), given}).with(nil)
	if err != nil {
		return usage(err)
	}
	connecting, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	if err := bus.Ready(connecting, name[:strings.LastIndexByte(name, '.')]); err != nil {
		return err
	}
	done()
	options := []any{args}
	if flags.timeout != 0 {
		options = append(options, framework.Timeout(flags.timeout))
	}
	made := newLoad(flags.rate, flags.duration, flags.inFlight, func(ctx context.Context) error {
		_, err := bus.Call(ctx, name, options...)
		return err
	})
	// A call with wrong parameters is not made a thousand times.
	if err := made.call(ctx); framework.OutcomeOf(err) == framework.NotSent && ctx.Err() == nil {
		return ofCall(explain(name, err, rpc))
	}
	began := time.Now()
	shown := p.status(0, func() string { return progressOf(made.now(), time.Since(began), flags) })
	made.run(ctx)
	shown()
	return p.showLoad(newBenchRecord(name, flags, made.now()))
}

// progressOf returns a line about a load that runs.
func progressOf(m measured, since time.Duration, flags benchFlags) string {
	ended, failed := 0, 0
	for kind, calls := range m.outcomes {
		ended += calls
		if kind.Code != "OK" {
			failed += calls
		}
	}
	return fmt.Sprintf("%.0f of %.0f s: %d calls, %d failed, %d in flight, p50 %s, p99 %s", min(since, flags.duration).Seconds(), flags.duration.Seconds(),
		ended, failed, m.flying, showMillis(m.percentile(50)), showMillis(m.percentile(99)))
}

// percentile returns a percentile of the latencies, in milliseconds.
func (m measured) percentile(of float64) float64 {
	return millis(time.Duration(m.latencies.ValueAtPercentile(of)) * time.Microsecond)
}

func newBenchRecord(name string, flags benchFlags, m measured) benchRecord {
	record := benchRecord{
		RPC: name, Rate: flags.rate, InFlight: flags.inFlight, Seconds: float64(m.took.Milliseconds()) / 1000, Planned: m.planned, Begun: m.begun,
		Interrupted: m.interrupted, Outcomes: []outcomeRecord{}, LatencyMillis: make(map[string]float64), Histogram: bars(m),
	}
	ended := 0
	for _, kind := range slices.SortedFunc(maps.Keys(m.outcomes), func(a, b outcomeKind) int {
		return cmp.Or(cmp.Compare(m.outcomes[b], m.outcomes[a]), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Outcome, b.Outcome))
	}) {
		record.Outcomes = append(record.Outcomes, outcomeRecord{kind.Outcome, kind.Code, m.outcomes[kind]})
		ended += m.outcomes[kind]
	}
	if record.Seconds > 0 {
		record.CallsASecond = float64(int(float64(ended)/record.Seconds*10)) / 10
	}
	if m.latencies.TotalCount() == 0 {
		return record
	}
	record.LatencyMillis["min"] = millis(time.Duration(m.latencies.Min()) * time.Microsecond)
	record.LatencyMillis["max"] = millis(time.Duration(m.latencies.Max()) * time.Microsecond)
	for _, each := range percentiles {
		record.LatencyMillis[each.name] = m.percentile(each.of)
	}
	return record
}

// bars returns the histogram: from the power of two below the shortest latency, each bar twice
// as long as the one before.
func bars(m measured) []barRecord {
	var out []barRecord
	if m.latencies.TotalCount() == 0 {
		return []barRecord{}
	}
	from := int64(1)
	for from*2 <= m.latencies.Min() {
		from *= 2
	}
	for _, bar := range m.latencies.Distribution() {
		for bar.From >= from*2 || len(out) == 0 {
			if len(out) > 0 {
				from *= 2
			}
			out = append(out, barRecord{millis(time.Duration(from) * time.Microsecond), millis(time.Duration(from*2) * time.Microsecond), 0})
		}
		out[len(out)-1].Calls += bar.Count
		if bar.To >= m.latencies.Max() {
			break
		}
	}
	return out
}

// showLoad prints the result of a load. It is an error if a call failed.
func (p *program) showLoad(record benchRecord) error {
	var err error
	switch p.format {
	case "table":
		_, err = fmt.Fprint(p.out, p.loadText(record))
	case "plain":
		for _, each := range latencyNames() {
			if value, ok := record.LatencyMillis[each]; ok {
				fmt.Fprintf(p.out, "%s\t%v\n", each, value)
			}
		}
		for _, each := range record.Outcomes {
			fmt.Fprintf(p.out, "%s\t%s\t%d\n", each.Outcome, each.Code, each.Calls)
		}
	default:
		err = p.writeValue(record)
	}
	if err != nil {
		return err
	}
	failed := 0
	for _, each := range record.Outcomes {
		if each.Code != "OK" {
			failed += each.Calls
		}
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d calls failed", failed, record.Begun)
	case len(record.Outcomes) == 0:
		return errors.New("interrupted before the first reply")
	}
	return nil
}

// latencyNames returns the names of the latencies, in their order.
func latencyNames() []string {
	out := []string{"min"}
	for _, each := range percentiles {
		out = append(out, each.name)
	}
	return append(out, "max")
}

func showMillis(value float64) string {
	return time.Duration(value * float64(time.Millisecond)).Round(10 * time.Microsecond).String()
}

// loadText returns the result of a load for people.
func (p *program) loadText(record benchRecord) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %d calls in %.1f s, %.1f a second\n", record.RPC, record.Begun-record.Interrupted, record.Seconds, record.CallsASecond)
	if late := record.Planned - record.Begun; late > 0 {
		fmt.Fprintf(&out, "%d of %d calls never began, because %d were in flight all the time: the instances are slower than the rate\n", late, record.Planned, record.InFlight)
	}
	if record.Interrupted > 0 {
		fmt.Fprintf(&out, "interrupted with %d calls in flight\n", record.Interrupted)
	}
	out.WriteString("\n")
	for _, each := range record.Outcomes {
		fmt.Fprintf(&out, "%10d  %s, %s\n", each.Calls, each.Code, each.Outcome)
	}
	if len(record.LatencyMillis) == 0 {
		return out.String()
	}
	out.WriteString("\n")
	for _, each := range latencyNames() {
		fmt.Fprintf(&out, "%10s  %s\n", each, showMillis(record.LatencyMillis[each]))
	}
	out.WriteString("\n")
	most := int64(1)
	for _, each := range record.Histogram {
		most = max(most, each.Calls)
	}
	const widest, labels = 50, 34
	columns, is := terminal(p.out)
	if !is {
		columns = widest + labels
	}
	width := int64(max(1, min(widest, columns-labels)))
	for _, each := range record.Histogram {
		line := fmt.Sprintf("%10s … %-10s %8d %s", showMillis(each.From), showMillis(each.To), each.Calls, strings.Repeat("█", int(each.Calls*width/most)))
		out.WriteString(strings.TrimRight(p.fitted(line), " ") + "\n")
	}
	return out.String()
}
