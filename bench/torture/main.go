// Torture tests "at most once" where it is hardest to keep: instances are killed or
// stopped all the time and start again at the same addresses, the registry reports this
// late or is silent for seconds, connections are made over TCP and over unix sockets, and are
// cut, and copies of calls are sent. Callers ask what became of the calls whose outcome is
// unknown, and record the answer.
//
// The instances are processes of their own. Their handlers record each run before they
// do anything else, callers record the outcomes of their calls, and the execution log
// compares the two. The command fails if a call ran twice, if an outcome was false, or if
// too many calls were refused.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	serveAt := flag.String("serve", "", "run an instance at this address")
	book := flag.String("log", "", "with -serve: the file in which to record runs")
	var settings settings
	flag.DurationVar(&settings.length, "for", time.Minute, "how long callers call")
	flag.IntVar(&settings.callers, "callers", 24, "callers at once")
	flag.IntVar(&settings.instances, "instances", 3, "instances")
	flag.Float64Var(&settings.replayed, "replayed", 0.05, "share of the calls that are sent again, 0 to 1")
	flag.Float64Var(&settings.repeatable, "repeatable", 0.1, "share of the calls whose RPC declares NO_SIDE_EFFECTS, 0 to 1")
	flag.Float64Var(&settings.silent, "silent", 0.5, "share of the time in which the registry says nothing, 0 to 1")
	flag.Float64Var(&settings.cut, "cut", 0.5, "share of the connections that are cut while their instance lives, 0 to 1")
	flag.Float64Var(&settings.sockets, "sockets", 0.5, "share of the connections that are made over unix sockets, 0 to 1")
	flag.BoolVar(&settings.own, "own", false, "run the instances in this process, where calls need no network: nothing is replayed or cut")
	flag.Parse()
	if err := start(*serveAt, *book, settings); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func start(serveAt, book string, settings settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if serveAt != "" {
		return serve(ctx, serveAt, book)
	}
	if err := settings.check(); err != nil {
		return err
	}
	run := torture
	if settings.own {
		run = tortureOwn
	}
	result, err := run(ctx, settings)
	if err != nil {
		return err
	}
	fmt.Print(result)
	return result.err()
}

// settings are the parameters of a run.
type settings struct {
	length     time.Duration
	callers    int
	instances  int
	replayed   float64
	repeatable float64
	silent     float64
	cut        float64
	sockets    float64
	own        bool
}

func (s settings) check() error {
	share := func(of float64) bool { return of >= 0 && of <= 1 }
	switch {
	case s.length <= 0 || s.callers < 1 || s.instances < 1:
		return errors.New("-for, -callers and -instances are more than zero")
	case !share(s.replayed) || !share(s.repeatable) || !share(s.silent) || !share(s.cut) || !share(s.sockets):
		return errors.New("-replayed, -repeatable, -silent, -cut and -sockets are shares, from 0 to 1")
	}
	return nil
}
