// Demo runs the main job on real parts: an etcd, two instances of auth and a
// caller, each a process of its own. Its exit code is not zero if a step went
// wrong, and it leaves nothing behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/onecall-dev/onecall/discovery/etcd/embed"
)

const (
	// ttl is short, so that the demo does not wait long until etcd removes a dead
	// instance.
	ttl = 3 * time.Second
	// limit is how long the demo may take.
	limit = 3 * time.Minute
	// instances is how many processes serve auth.
	instances = 2
)

func main() {
	endpoint := flag.String("etcd", "", "client URL of etcd: run the caller's part only")
	flag.Parse()
	if err := run(*endpoint, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(endpoint string, processes []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if endpoint == "" {
		return demo(ctx)
	}
	return call(ctx, endpoint, processes)
}

// demo starts all processes and waits for the caller.
func demo(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "onecall-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := embed.Start(ctx, embed.Config{Dir: filepath.Join(dir, "etcd")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	var ends []func(signaled bool) error // of the instances, before etcd's
	signaled := false                    // whether the caller has signaled all instances
	defer func() {
		for _, end := range ends {
			err = errors.Join(err, end(signaled))
		}
	}()
	endpoint := server.Endpoints()[0]
	fmt.Printf("etcd listens on %s\n", endpoint)

	self, err := os.Executable()
	if err != nil {
		return err
	}
	arguments := []string{"-etcd", endpoint}
	for i := range instances {
		process, end, err := startAuth(ctx, filepath.Join(filepath.Dir(self), "service"), endpoint, dir, i+1)
		if err != nil {
			return err
		}
		ends = append(ends, end)
		fmt.Printf("auth %d is process %d\n", i+1, process)
		arguments = append(arguments, strconv.Itoa(process))
	}
	caller := child(ctx, self, arguments...)
	caller.Stdout, caller.Stderr = os.Stdout, os.Stderr
	if err := caller.Start(); err != nil {
		return err
	}
	fmt.Printf("the caller is process %d\n", caller.Process.Pid)
	if err := caller.Wait(); err != nil {
		return fmt.Errorf("the caller: %w", err)
	}
	signaled = true
	return ctx.Err()
}

// startAuth starts an instance, which logs to a file in dir. It returns its process and a
// function that stops it.
func startAuth(ctx context.Context, service, endpoint, dir string, number int) (process int, end func(signaled bool) error, err error) {
	log, err := os.Create(filepath.Join(dir, fmt.Sprintf("auth-%d.log", number)))
	if err != nil {
		return 0, nil, err
	}
	defer log.Close()
	command := child(ctx, service, "-etcd", endpoint, "-ttl", ttl.String(), "-store", filepath.Join(dir, "accounts.json"))
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return 0, nil, fmt.Errorf("starting an instance of auth (is %s built?): %w", service, err)
	}
	return command.Process.Pid, func(signaled bool) error { return finish(command, log.Name(), signaled) }, nil
}

// child returns the command of a process that ends with this one.
func child(ctx context.Context, name string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, arguments...)
	command.SysProcAttr = endWithParent()
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	return command
}

// finish waits for the end of an instance. If the caller has not signaled it, finish does: a
// second signal would end it in the middle of its shutdown. If it ended for another reason
// than the signals, the error contains its log.
func finish(command *exec.Cmd, log string, signaled bool) error {
	if !signaled {
		_ = command.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	err := command.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return nil
		}
	}
	if err == nil {
		return nil
	}
	logged, _ := os.ReadFile(log)
	return fmt.Errorf("an instance of auth: %w\n%s", err, logged)
}
