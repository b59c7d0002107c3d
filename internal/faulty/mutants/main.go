// Command mutants proves that the tests of "at most once" notice when a promise
// is broken: it breaks each, one at a time, and demands that a test fails.
//
//	go run ./internal/faulty/mutants [-run pattern]
//
// It runs at the module's root and changes nothing there: what is mutated is
// handed to the go command as an overlay. It prints a line for each mutant, and
// fails when one survived, did not compile, or is of code that is no longer
// there.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	pattern := flag.String("run", "", "judge only the mutants whose names match this regular expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, *pattern)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, pattern string) error {
	wanted, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	var chosen []mutant
	for _, m := range mutants() {
		if wanted.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("-run: no mutant's name matches %q", pattern)
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	return judgeAll(ctx, os.Stdout, root, chosen)
}
