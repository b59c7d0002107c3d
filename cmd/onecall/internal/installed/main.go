// Installed tests what a user does first. It publishes the working tree on a module proxy in
// a folder, installs the command from there with go install, makes a project in an empty
// folder, and runs its demo, its tests and its generator. With arguments it runs these as a
// command instead, in the root of the repository, for which the modules are published.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err) //nolint:gocritic // the process ends
	}
}

// user is a user who has Go, make and git, and works in a folder.
type user struct {
	dir string
	env []string
}

func run(ctx context.Context) (err error) {
	root, err := output(ctx, "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	cache, err := output(ctx, "go", "env", "GOMODCACHE")
	if err != nil {
		return err
	}
	upstream, err := output(ctx, "go", "env", "GOPROXY")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "onecall-installed-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// No two runs have the same version, because the go command keeps a version for ever.
	published := proxy{dir: filepath.Join(dir, "proxy"), root: root, version: fmt.Sprintf("v0.0.1-test.%d", time.Now().UnixNano())}
	defer published.forget(cache)
	if err := published.publish(ctx); err != nil {
		return err
	}
	bin := filepath.Join(dir, "bin")
	u := user{dir: filepath.Join(dir, "work"), env: append(os.Environ(),
		"GOPROXY=file://"+filepath.ToSlash(published.dir)+","+upstream,
		"GONOSUMDB="+frameworkModule+","+os.Getenv("GONOSUMDB"),
		"GOBIN="+bin,
		"GOWORK=",
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"),
	)}
	if err := os.Mkdir(u.dir, 0o700); err != nil { //nolint:mnd // of this user alone
		return err
	}
	if arguments := os.Args[1:]; len(arguments) > 0 {
		u.dir = root
		return u.run(ctx, arguments[0], arguments[1:]...)
	}
	if err := u.run(ctx, "go", "install", commandModule+"@"+published.version); err != nil {
		return err
	}
	if err := u.run(ctx, filepath.Join(bin, "onecall"), "new", "shop"); err != nil {
		return err
	}
	return u.useProject(ctx, published.version)
}

// useProject runs the targets of a new project, and checks that they leave it as it is.
func (u user) useProject(ctx context.Context, version string) error {
	u.dir = filepath.Join(u.dir, "shop")
	before, err := contents(u.dir)
	if err != nil {
		return err
	}
	if want := frameworkModule + " " + version + "\n"; !strings.Contains(before["go.mod"], want) || strings.Contains(before["go.mod"], "replace") {
		return fmt.Errorf("go.mod does not require %s:\n%s", want, before["go.mod"])
	}
	for _, target := range []string{"demo", "test", "check", "generate"} {
		if err := u.run(ctx, "make", target); err != nil {
			return err
		}
	}
	after, err := contents(u.dir)
	if err != nil {
		return err
	}
	if !maps.Equal(before, after) {
		return errors.New("the targets of make have changed the project")
	}
	return nil
}

// run runs a command, with its output on that of this process.
func (u user) run(ctx context.Context, name string, args ...string) error {
	shown := strings.Join(append([]string{filepath.Base(name)}, args...), " ")
	fmt.Println("$ " + shown)
	began := time.Now()
	command := exec.CommandContext(ctx, name, args...) //nolint:gosec // those above
	command.Dir, command.Env, command.Stdout, command.Stderr = u.dir, u.env, os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w", shown, err)
	}
	fmt.Printf("(%.1f s)\n\n", time.Since(began).Seconds())
	return nil
}

// output returns the one line that a command prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output() //nolint:gosec // those above
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
