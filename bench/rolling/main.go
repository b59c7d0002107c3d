// Rolling restarts the instances of a service in turn while callers call, and fails if one
// call failed, ran twice or had a false outcome, or if a stream did not end by its handler.
//
// An etcd and the callers are in this process, and each instance is a process of its own,
// which gets SIGTERM. With -late there are also plain gRPC callers. They call through a
// layer-4 proxy that forwards to an instance for that long after its SIGTERM, as a Service
// of Kubernetes does, and the instances have a lame duck of twice that time.
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
	var child instance
	flag.StringVar(&child.endpoint, "etcd", "", "run an instance that registers in the etcd at this URL")
	flag.StringVar(&child.listen, "listen", "", "with -etcd: the address to serve at")
	flag.StringVar(&child.log, "log", "", "with -etcd: the file in which to record runs")
	flag.DurationVar(&child.lameDuck, "lame-duck", 0, "with -etcd: the lame duck")
	var settings settings
	flag.IntVar(&settings.rounds, "rounds", 20, "how often each instance is restarted")
	flag.IntVar(&settings.instances, "instances", 3, "instances")
	flag.IntVar(&settings.callers, "callers", 24, "callers at once, a quarter of which have streams")
	flag.DurationVar(&settings.late, "late", 0, "how long a proxy forwards plain calls to an instance that got SIGTERM; 0 is no such calls")
	flag.Parse()
	if err := start(child, settings); err != nil {
		fmt.Fprintln(os.Stderr, "rolling:", err)
		os.Exit(1)
	}
}

func start(child instance, settings settings) error {
	if child.endpoint != "" {
		return child.serve()
	}
	if err := settings.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	result, err := roll(ctx, settings)
	if err != nil {
		return err
	}
	fmt.Print(result)
	return result.err()
}

// settings are the parameters of a run.
type settings struct {
	rounds, instances, callers int
	late                       time.Duration
}

func (s settings) check() error {
	switch {
	case s.rounds < 1 || s.instances < 2 || s.callers < 4:
		return errors.New("give a round, two instances and four callers at least: with one instance there is none to call during its restart")
	case s.late < 0:
		return errors.New("-late is less than zero")
	}
	return nil
}
