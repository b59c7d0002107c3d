// Command onecall shows and calls the APIs of a registry in etcd. The page docs/command.md
// is its reference.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() { os.Exit(run()) }

// run runs the command line, and returns the exit code.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	p := &program{out: os.Stdout, errs: os.Stderr, in: os.Stdin}
	err := p.command().ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && p.exitCode(err) == exitFailed && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintln(p.errs, "onecall: "+remedy(strings.TrimPrefix(oneLine(err.Error()), "onecall: ")))
	return p.exitCode(err)
}
