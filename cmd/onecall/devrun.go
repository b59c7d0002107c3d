package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// runWithin runs a command that uses an etcd, and returns when it has ended. The end of ctx
// asks it to end.
func (p *program) runWithin(ctx context.Context, endpoints, args []string) error {
	command := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the user names it
	command.Env = append(os.Environ(), "ONECALL_ETCD_ENDPOINTS="+strings.Join(endpoints, ","))
	command.Stdin, command.Stdout, command.Stderr = p.in, p.out, p.errs
	command.Cancel = func() error {
		if interruptedAtTerminal(ctx) {
			return nil
		}
		err := command.Process.Signal(syscall.SIGTERM)
		if err != nil && !errors.Is(err, os.ErrProcessDone) { // Windows has no such signal
			err = command.Process.Kill()
		}
		return err
	}
	err := command.Run()
	if err == nil || command.ProcessState != nil && command.ProcessState.Success() {
		return nil
	}
	return fmt.Errorf("%s: %w", args[0], err)
}

// interruptedAtTerminal reports whether Ctrl-C at the terminal ended ctx. The terminal then
// interrupts all programs that it runs, and a second signal would end them at once.
func interruptedAtTerminal(ctx context.Context) bool {
	byInterrupt := strings.HasPrefix(context.Cause(ctx).Error(), os.Interrupt.String())
	return byInterrupt && term.IsTerminal(int(os.Stdin.Fd()))
}
