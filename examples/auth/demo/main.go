// Demo runs the main job on real parts: an etcd, two instances of auth and a
// caller, each a process of its own. It ends non-zero when any step went
// otherwise than told, and leaves nothing behind.
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
	// ttl is short, so that the demo need not wait long for a dead instance to
	// leave etcd.
	ttl = 3 * time.Second
	// limit ends a demo that hangs.
	limit = 60 * time.Second
	// instances is how many processes serve auth.
	instances = 2
)

func main() {
	endpoint := flag.String("etcd", "", "client URL of etcd: run the caller's part only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var err error
	if *endpoint == "" {
		err = conduct(ctx)
	} else {
		err = call(ctx, *endpoint, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// conduct starts all processes and waits for the caller.
func conduct(ctx context.Context) (err error) {
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
	endpoint := server.Endpoints()[0]
	fmt.Printf("etcd listens on %s\n", endpoint)

	self, err := os.Executable()
	if err != nil {
		return err
	}
	service := filepath.Join(filepath.Dir(self), "service")
	arguments := []string{"-etcd", endpoint}
	for i := range instances {
		log, err := os.Create(filepath.Join(dir, fmt.Sprintf("auth-%d.log", i+1)))
		if err != nil {
			return err
		}
		defer log.Close()
		command := child(ctx, service, "-etcd", endpoint, "-ttl", ttl.String(), "-store", filepath.Join(dir, "accounts.json"))
		command.Stdout, command.Stderr = log, log
		if err := command.Start(); err != nil {
			return fmt.Errorf("starting an instance of auth (is %s built?): %w", service, err)
		}
		fmt.Printf("auth %d is process %d\n", i+1, command.Process.Pid)
		defer func() { err = errors.Join(err, end(command, log.Name())) }()
		arguments = append(arguments, strconv.Itoa(command.Process.Pid))
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
	return ctx.Err()
}

// child is a process that ends with this one.
func child(ctx context.Context, name string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, arguments...)
	command.SysProcAttr = endWithParent()
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	return command
}

// end ends an instance, if the caller has not, and tells what it logged if it
// ended otherwise than by the caller's signals.
func end(command *exec.Cmd, log string) error {
	_ = command.Process.Signal(syscall.SIGTERM) // it may have ended
	err := command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
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
