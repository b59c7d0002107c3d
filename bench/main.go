// Bench compares the cost of a call on a bus with that of the same call on plain
// grpc-go: wall time, CPU and allocations per call, of the caller and of the server,
// which are separate processes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/measure"
)

func main() {
	var o options
	flag.StringVar(&o.serve, "serve", "", "run a server: plain, onecall, or one of -observe or -secure")
	flag.StringVar(&o.callers, "callers", "1,64", "numbers of callers at once, comma-separated")
	flag.BoolVar(&o.observed, "observe", false, "measure what metrics, traces and the log of calls cost")
	flag.BoolVar(&o.secured, "secure", false, "measure what authentication and authorization cost")
	flag.BoolVar(&o.sockets, "socket", false, "measure calls over a unix socket")
	flag.IntVar(&payload, "bytes", payload, "bytes of a request and of its reply")
	flag.StringVar(&o.gate, "gate", "", "fail unless calls allocate what this file says")
	flag.BoolVar(&o.timed, "cpu", false, "with -gate: fail also if a call needs more CPU")
	flag.BoolVar(&o.update, "update", false, "with -gate: write the file")
	flag.IntVar(&o.turns, "turns", 15, "turns of each way")
	flag.DurationVar(&o.length, "time", 500*time.Millisecond, "length of a turn")
	flag.Parse()
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	serve, callers, gate             string
	observed, secured, timed, update bool
	sockets                          bool
	turns                            int
	length                           time.Duration
}

func (o options) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if o.serve != "" {
		return serve(ctx, o.serve)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if o.gate != "" {
		return gate(ctx, self, o.gate, o.update, o.timed)
	}
	if o.turns < 1 || o.length <= 0 {
		return fmt.Errorf("-turns %d and -time %v: both are more than zero", o.turns, o.length)
	}
	of := compare
	switch {
	case o.observed:
		of = compareServings(observings)
	case o.secured:
		of = compareServings(securings)
	case o.sockets:
		of = compareSockets
	}
	fmt.Println(measure.Machine())
	for text := range strings.SplitSeq(o.callers, ",") {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 {
			return fmt.Errorf("-callers: %q is not a number of callers", text)
		}
		ways, err := of(ctx, self, count, o.turns, o.length)
		if err != nil {
			return err
		}
		if err := show(count, ways); err != nil {
			return err
		}
	}
	return nil
}
