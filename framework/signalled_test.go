//go:build !windows

package framework_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Windows has no such test: there Go cannot send an interrupt to another process.
func TestASecondSignalEndsTheProcess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0])
	command.Env = append(os.Environ(), signalEnv+"=1")
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, event := range []string{handlerRuns, "the registry was left"} {
		for found := false; !found; found = strings.Contains(lines.Text(), event) {
			if !lines.Scan() {
				t.Fatalf("the process ended, or hangs, before %q", event)
			}
		}
		if err := command.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	rest, _ := io.ReadAll(out)
	err = command.Wait()
	if err == nil || ctx.Err() != nil || strings.Contains(string(rest), "Serve returned") {
		t.Errorf("after a second signal the process ended with %v (%v) and printed %s", err, ctx.Err(), rest)
	}
}
