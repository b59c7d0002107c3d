// Discovery measures what discovery in etcd costs: how soon a caller learns of an
// instance, how much memory a caller of many APIs needs, how much later than with plain
// grpc-go a program is ready, and how much CPU idle programs and etcd use.
//
// Etcd, services and callers are processes of their own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// measures are the measurements by name.
var measures = map[string]func(b *bench, ctx context.Context) error{
	"event":  (*bench).event,
	"memory": (*bench).memory,
	"start":  (*bench).start,
	"idle":   (*bench).idle,
	"fleet":  (*bench).fleet,
}

// bench is what the measurements share.
type bench struct {
	turns  int
	length time.Duration
	size   int
	// etcd is the program that runs an etcd.
	etcd string
}

func main() {
	role := flag.String("role", "", "what a child process is")
	endpoint := flag.String("etcd", "", "the etcd of a child process")
	only := flag.String("only", "event,memory,start,idle,fleet", "what to measure, comma-separated")
	b := &bench{}
	flag.IntVar(&b.turns, "turns", 15, "turns of what is measured by turns")
	flag.DurationVar(&b.length, "time", time.Minute, "how long idle programs are watched")
	flag.IntVar(&b.size, "instances", 1000, "how many instances are a fleet")
	flag.Parse()
	if err := b.run(*role, *endpoint, strings.Split(*only, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "discovery:", err)
		os.Exit(1)
	}
}

func (b *bench) run(role, endpoint string, only []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if role != "" {
		return play(ctx, role, endpoint)
	}
	built, err := buildEtcd(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(built)) }()
	b.etcd = built
	for _, name := range only {
		measure, ok := measures[name]
		if !ok {
			return fmt.Errorf("-only %q: give some of event, memory, start, idle and fleet", name)
		}
		if err := measure(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// buildEtcd builds the program that runs an etcd, in a folder of its own.
func buildEtcd(ctx context.Context) (program string, err error) {
	dir, err := os.MkdirTemp("", "onecall-bench-")
	if err != nil {
		return "", err
	}
	program = filepath.Join(dir, "etcd")
	command := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/onecall-dev/onecall/bench/etcd")
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	if err := command.Run(); err != nil {
		_ = os.RemoveAll(dir)
		return "", fmt.Errorf("building etcd, which works in the folder bench: %w", err)
	}
	return program, nil
}
