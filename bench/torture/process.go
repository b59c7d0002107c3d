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

// place is where one process after another serves. Only its own goroutine uses
// it.
type place struct {
	registry *lateRegistry
	self     string
	address  string
	// left is what a killed process left in the registry, as a lease would,
	// until the next one is there.
	left discovery.Registration
}

// process is one instance's.
type process struct {
	place        *place
	command      *exec.Cmd
	input        io.Closer
	registration discovery.Registration
	heard        chan error // the end of its news
}

// start starts a process and returns when it is registered.
func (p *place) start(ctx context.Context, notes string) (*process, error) {
	// It ends by its input, or by kill; the context would kill it only.
	command := exec.CommandContext(context.WithoutCancel(ctx), p.self, "-serve", p.address, "-ledger", notes)
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
	started := &process{place: p, command: command, input: input, heard: make(chan error, 1)}
	lines := bufio.NewScanner(output)
	starting := time.AfterFunc(patience, func() { _ = command.Process.Kill() }) // it may have ended
	defer starting.Stop()
	if err := started.hear(lines); err != nil {
		return nil, errors.Join(fmt.Errorf("an instance at %s did not start: %w", p.address, err), input.Close(), command.Wait())
	}
	go func() { // ends with the process, for which end waits
		for {
			if err := started.hear(lines); err != nil {
				started.heard <- err
				return
			}
		}
	}()
	return started, nil
}

// hear takes one line of the process's news; io.EOF is their end.
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
		if p.registration, err = p.place.registry.Register(told.Instances...); err != nil {
			return err
		}
		return p.place.forget(ctx)
	case p.registration == nil:
		return fmt.Errorf("an instance is %s before it was registered", told.Event)
	case told.Event == draining:
		return p.registration.Drain(ctx)
	default:
		return p.registration.Close(ctx)
	}
}

// forget takes out of the registry what a killed process left there.
func (p *place) forget(ctx context.Context) error {
	if p.left == nil {
		return nil
	}
	left := p.left
	p.left = nil
	return left.Close(ctx)
}

// kill kills the process, without any word to the registry.
func (p *process) kill() error {
	if err := p.command.Process.Kill(); err != nil {
		return err
	}
	err := p.ended()
	p.place.left = p.registration
	if exit := new(exec.ExitError); errors.As(err, &exit) && !exit.Exited() {
		return nil // killed
	}
	return err
}

// stop has the process stop at once.
func (p *process) stop() error {
	if err := p.input.Close(); err != nil {
		return err
	}
	killing := time.AfterFunc(patience, func() { _ = p.command.Process.Kill() }) // it may have ended
	defer killing.Stop()
	return p.ended()
}

// ended waits for the end.
func (p *process) ended() error {
	err := <-p.heard
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, p.command.Wait())
}
