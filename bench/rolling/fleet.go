package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
)

const (
	// patience limits how long a process may take to start or to end.
	patience = 30 * time.Second
)

// fleet is the instances. Only one goroutine uses it.
type fleet struct {
	endpoint, folder string
	lameDuck         time.Duration
	self             string
	slots            []*process // one for each instance
	listen           []string   // where each instance listens, in each of its lives
	lives            int
}

// process is the process of an instance.
type process struct {
	command *exec.Cmd
	input   io.Closer
	address string
}

// start starts the next life of an instance, and returns when it is registered.
func (f *fleet) start(slot int) error {
	f.lives++
	command := exec.CommandContext(context.Background(), f.self, "-etcd", f.endpoint, "-listen", f.listen[slot],
		"-log", filepath.Join(f.folder, fmt.Sprintf("%d-%d%s", slot, f.lives, executionlog.FileEnd)), "-lame-duck", f.lameDuck.String())
	command.Stderr = os.Stderr
	input, err := command.StdinPipe() // its end ends the process
	if err != nil {
		return err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	started := &process{command: command, input: input}
	killing := time.AfterFunc(patience, func() { _ = command.Process.Kill() }) // it may have ended
	defer killing.Stop()
	lines := bufio.NewScanner(output)
	if !lines.Scan() {
		return errors.Join(fmt.Errorf("instance %d did not start", slot), lines.Err(), input.Close(), command.Wait())
	}
	started.address = lines.Text()
	f.slots[slot] = started
	return nil
}

// stop sends SIGTERM to an instance, and waits until it has ended by itself.
func (f *fleet) stop(slot int) error {
	stopped := f.slots[slot]
	f.slots[slot] = nil
	if stopped == nil {
		return nil
	}
	if err := stopped.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	killing := time.AfterFunc(patience, func() { _ = stopped.command.Process.Kill() }) // it may have ended
	defer killing.Stop()
	if err := stopped.command.Wait(); err != nil {
		return fmt.Errorf("instance %d did not end as it should: %w", slot, err)
	}
	return nil
}

// stopAll stops all instances that run.
func (f *fleet) stopAll() error {
	var errs []error
	for slot := range f.slots {
		errs = append(errs, f.stop(slot))
	}
	return errors.Join(errs...)
}
