package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/onecall-dev/onecall/discovery"
)

// slot is an address at which one process after another serves. Only one goroutine uses
// it.
type slot struct {
	registry *lateRegistry
	self     string
	address  string
	// left is the registration of a killed process. It stays until the next process is
	// registered, as it would under a lease.
	left discovery.Registration
}

// process is the process of an instance.
type process struct {
	slot         *slot
	command      *exec.Cmd
	input        io.Closer
	registration discovery.Registration
	heard        chan error // receives the error that ended the reading of its news
}

// start starts a process and returns when it is registered.
func (s *slot) start(ctx context.Context, notes string) (*process, error) {
	// The end of its input stops it; a context could only kill it.
	command := exec.CommandContext(context.WithoutCancel(ctx), s.self, "-serve", s.address, "-log", notes)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	started := &process{slot: s, command: command, input: input, heard: make(chan error, 1)}
	lines := bufio.NewScanner(output)
	starting := time.AfterFunc(patience, func() { _ = command.Process.Kill() }) // it may have ended
	defer starting.Stop()
	if err := started.hear(lines); err != nil {
		return nil, errors.Join(fmt.Errorf("an instance at %s did not start: %w", s.address, err), input.Close(), command.Wait())
	}
	go func() { // ends with the process, for which ended waits
		for {
			if err := started.hear(lines); err != nil {
				started.heard <- err
				return
			}
		}
	}()
	return started, nil
}

// hear reads and handles one line of the process; io.EOF is the end.
func (p *process) hear(lines *bufio.Scanner) error {
	if !lines.Scan() {
		return errors.Join(io.EOF, lines.Err())
	}
	var told news
	if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
		return fmt.Errorf("an instance wrote %q: %w", lines.Text(), err)
	}
	ctx := context.Background()
	switch {
	case told.Event == registered:
		var err error
		if p.registration, err = p.slot.registry.Register(told.Instances...); err != nil {
			return err
		}
		return p.slot.forget(ctx)
	case p.registration == nil:
		return fmt.Errorf("an instance is %s before it was registered", told.Event)
	case told.Event == draining:
		return p.registration.Drain(ctx)
	default:
		return p.registration.Close(ctx)
	}
}

// forget removes the registration that a killed process left.
func (s *slot) forget(ctx context.Context) error {
	if s.left == nil {
		return nil
	}
	left := s.left
	s.left = nil
	return left.Close(ctx)
}

// kill kills the process. Its registration stays.
func (p *process) kill() error {
	if err := p.command.Process.Kill(); err != nil {
		return err
	}
	err := p.ended()
	p.slot.left = p.registration
	if exit := new(exec.ExitError); errors.As(err, &exit) && !exit.Exited() {
		return nil // killed
	}
	return err
}

// stop makes the process shut down at once, and waits for it.
func (p *process) stop() error {
	if err := p.input.Close(); err != nil {
		return err
	}
	killing := time.AfterFunc(patience, func() { _ = p.command.Process.Kill() }) // it may have ended
	defer killing.Stop()
	return p.ended()
}

// ended waits until the process has ended.
func (p *process) ended() error {
	err := <-p.heard
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, p.command.Wait())
}
