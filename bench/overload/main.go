// Overload calls a service with many more callers than it serves at the same time, and
// prints how many calls it still serves, relative to what it can do. Then it does so beside
// many connections of one host. It fails if that is less than 80 %, if a call fails
// otherwise than by being refused, if a refusal takes longer than a call, or if the service
// needs too much memory.
//
// The service is a process of its own. Its handlers wait, as for a database.
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
	var settings settings
	serveAt := flag.String("serve", "", "run the service at this address")
	flag.IntVar(&settings.callers, "callers", 5000, "callers at once")
	flag.IntVar(&settings.buses, "buses", 10, "buses, which share the callers")
	flag.IntVar(&settings.most, "most", 100, "how many calls the service has under way at most")
	flag.DurationVar(&settings.work, "work", 50*time.Millisecond, "how long a handler waits")
	flag.DurationVar(&settings.wait, "wait", 2*time.Second, "how long a caller waits after a refusal, at most: with less, the callers need the CPU that the service has")
	flag.DurationVar(&settings.length, "for", 10*time.Second, "how long callers call")
	flag.IntVar(&settings.connections, "connections", 10_000, "connections without calls, at last")
	flag.IntVar(&settings.memory, "memory", 400, "how many MiB the service may need")
	flag.Parse()
	if err := start(*serveAt, settings); err != nil {
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(1)
	}
}

func start(serveAt string, settings settings) error {
	if serveAt != "" {
		return serve(serveAt, settings)
	}
	if settings.callers <= settings.most || settings.buses < 1 || settings.most < settings.buses || settings.work <= 0 || settings.wait <= 0 || settings.length <= 0 || settings.connections < 0 {
		return errors.New("give more -callers than -most, and times of more than zero; -most is not less than -buses")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	result, err := overload(ctx, settings)
	if err != nil {
		return err
	}
	fmt.Print(result)
	return result.err()
}

// settings are the parameters of a run.
type settings struct {
	callers, buses, most, memory, connections int
	work, wait, length                        time.Duration
}
