// Command mutants proves that the tests of "at most once" detect broken promises. It
// breaks one promise at a time and requires that a test fails.
//
//	go run ./internal/faulty/mutants [-run pattern] [-way way]
//
// It runs at the module's root and changes no file there: the go command reads the
// mutated files through an overlay. It prints a line for each mutant. It fails if a
// mutant survived, did not compile, or is stale because the code that it replaces is
// no longer there.
//
// With -way it runs the suites of package framework alone, over that way of calls. Only
// tests whose calls take the way count. A mutant without such a test has survived, unless
// the table says that it needs what calls over the way do not have.
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
	over := flag.String("way", "", "run only the suites of package framework, with calls that take this way: one of "+wayNames())
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, *pattern, *over)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, pattern, wayName string) error {
	over, err := wayOf(wayName)
	if err != nil {
		return err
	}
	wanted, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	var chosen []mutant
	for _, m := range mutants() {
		m.suites = over.suites(m)
		if wanted.MatchString(m.name) && len(m.suites) > 0 {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("-run: no mutant's name matches %q, or none has suites that take the way", pattern)
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	return checkAll(ctx, os.Stdout, root, over, chosen)
}
