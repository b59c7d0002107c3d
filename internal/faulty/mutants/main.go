// Command mutants proves that the tests of "at most once" detect broken promises. It
// breaks one promise at a time and requires that a test fails.
//
//	go run ./internal/faulty/mutants [-run pattern]
//
// It runs at the module's root and changes no file there: the go command reads the
// mutated files through an overlay. It prints a line for each mutant. It fails if a
// mutant survived, did not compile, or is stale because the code that it replaces is
// no longer there.
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
	pattern := flag.String("run", "", "run only the mutants whose names match this regular expression")
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
	return checkAll(ctx, os.Stdout, root, chosen)
}
