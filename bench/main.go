// Bench compares the cost of a call on a bus with that of the same call on plain
// grpc-go: wall time, CPU and allocations per call, of the caller and of the server,
// which are separate processes.
//
// The ways take turns of some milliseconds, so that other load of the machine affects all
// of them alike. Figures are medians over the turns. Ratios are medians of the ratios
// within a turn.
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
)

func main() {
	serveAs := flag.String("serve", "", "run a server: plain, onecall, or one of -observe or -secure")
	callers := flag.String("callers", "1,64", "numbers of callers at once, comma-separated")
	observed := flag.Bool("observe", false, "measure what metrics, traces and the log of calls cost")
	secured := flag.Bool("secure", false, "measure what authentication and authorization cost")
	turns := flag.Int("turns", 15, "turns of each way")
	length := flag.Duration("time", 500*time.Millisecond, "length of a turn")
	flag.Parse()
	if err := run(*serveAs, *callers, *observed, *secured, *turns, *length); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(serveAs, callers string, observed, secured bool, turns int, length time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if serveAs != "" {
		return serve(ctx, serveAs)
	}
	if turns < 1 || length <= 0 {
		return fmt.Errorf("-turns %d and -time %v: both are more than zero", turns, length)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	measure := compare
	switch {
	case observed:
		measure = compareServings(observings)
	case secured:
		measure = compareServings(securings)
	}
	fmt.Println(machine())
	for text := range strings.SplitSeq(callers, ",") {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 {
			return fmt.Errorf("-callers: %q is not a number of callers", text)
		}
		ways, err := measure(ctx, self, count, turns, length)
		if err != nil {
			return err
		}
		if err := show(count, ways); err != nil {
			return err
		}
	}
	return nil
}
