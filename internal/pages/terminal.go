package pages

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
)

// terminal is a shell that reads commands, as a person types them: what one block has set and
// where it has gone to is there for the next.
type terminal struct {
	shell *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // closed when the shell has ended

	mu      sync.Mutex // guards the fields below
	printed strings.Builder
	changed chan struct{} // closed when printed grows, and replaced

	// end is the line that the shell prints after the commands that run, "" if there are none.
	// Only the goroutine that calls run uses it and the fields below.
	end string
	// from is where the output begins that the page has not shown yet.
	from int
	// until is the end of the output of the last commands, 0 while they go on.
	until int
}

// openTerminal starts a shell, which outlives ctx: close ends it.
func openTerminal(ctx context.Context, dir string, environment []string) (*terminal, error) {
	shell := exec.CommandContext(context.WithoutCancel(ctx), "bash", "--noprofile", "--norc")
	shell.Dir, shell.Env = dir, environment
	ownGroup(shell)
	stdin, err := shell.StdinPipe()
	if err != nil {
		return nil, err
	}
	t := &terminal{shell: shell, stdin: stdin, ended: make(chan struct{}), changed: make(chan struct{})}
	shell.Stdout, shell.Stderr = t, t
	if err := shell.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(t.ended)
		_ = shell.Wait() // the commands' exit codes are what counts
	}()
	// Ctrl-C ends the command that runs, and not the shell.
	_, err = io.WriteString(stdin, "trap : INT\n")
	return t, err
}

// Write implements [io.Writer] for what is printed.
func (t *terminal) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.changed)
	t.changed = make(chan struct{})
	return t.printed.Write(text)
}

// output returns what was printed from an offset on, and a channel that is closed when there
// is more.
func (t *terminal) output(from int) (string, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.printed.String()[from:], t.changed
}

// run types commands, and waits until they have ended, or until they have printed a text.
func (t *terminal) run(ctx context.Context, commands string, how comment) error {
	if how.interrupts {
		if err := interrupt(t.shell); err != nil {
			return err
		}
	}
	if err := t.finish(ctx); err != nil {
		return err
	}
	before, _ := t.output(0)
	t.from, t.until = len(before), 0
	t.end = "end-of-block-" + rand.Text()
	if how.until == "" && how.exit == 0 {
		commands = "set -eo pipefail\n" + commands + "\nset +eo pipefail"
	}
	// Without a standard input of their own, commands would read the next ones.
	if _, err := fmt.Fprintf(t.stdin, "{\n%s\n} </dev/null\necho %s $?\n", commands, t.end); err != nil {
		return err
	}
	if how.until != "" {
		return t.begin(ctx, how.until)
	}
	return t.finishWith(ctx, how.exit)
}

// begin waits until the commands have printed a text, and go on.
func (t *terminal) begin(ctx context.Context, until string) error {
	for {
		printed, changed := t.output(t.from)
		if strings.Contains(printed, until) {
			return nil
		}
		if strings.Contains(printed, t.end) {
			return fmt.Errorf("the commands have ended, and did not print %q:\n%s", until, printed)
		}
		if err := t.more(ctx, changed, printed); err != nil {
			return err
		}
	}
}

// more waits until more is printed.
func (t *terminal) more(ctx context.Context, changed <-chan struct{}, printed string) error {
	select {
	case <-changed:
		return nil
	case <-t.ended:
		return fmt.Errorf("a command has failed:\n%s", printed)
	case <-ctx.Done():
		return fmt.Errorf("%w:\n%s", context.Cause(ctx), printed)
	}
}

// finish waits until the commands that go on have ended.
func (t *terminal) finish(ctx context.Context) error {
	if t.end == "" {
		return nil
	}
	if _, err := t.await(ctx, t.end+" ", "\n"); err != nil {
		return fmt.Errorf("the commands before these have not ended: %w", err)
	}
	t.end = ""
	return nil
}

// finishWith waits until the commands have ended, with an exit code.
func (t *terminal) finishWith(ctx context.Context, want int) error {
	at, err := t.await(ctx, t.end+" ", "\n")
	if err != nil {
		return err
	}
	all, _ := t.output(t.from)
	var exit int
	if _, err := fmt.Sscanf(all[at+len(t.end)+1:], "%d", &exit); err != nil {
		return err
	}
	t.until, t.end = t.from+at, ""
	if exit != want {
		return fmt.Errorf("the exit code is %d, want %d:\n%s", exit, want, all[:at])
	}
	return nil
}

// await waits until texts were printed one after the other, and returns where the first is.
func (t *terminal) await(ctx context.Context, texts ...string) (int, error) {
	for {
		printed, changed := t.output(t.from)
		if at := find(printed, texts); at >= 0 {
			return at, nil
		}
		if err := t.more(ctx, changed, printed); err != nil {
			return 0, err
		}
	}
}

// find returns where the first of texts is, if all follow each other, else -1.
func find(text string, texts []string) int {
	first, from := -1, 0
	for _, each := range texts {
		at := strings.Index(text[from:], each)
		if at < 0 {
			return -1
		}
		if first < 0 {
			first = at
		}
		from += at + len(each)
	}
	return first
}

// shows compares the output of the last commands with what the page shows. While they go on,
// it waits for that.
func (t *terminal) shows(ctx context.Context, shown string) error {
	if t.until > 0 {
		all, _ := t.output(0)
		if printed := all[t.from:t.until]; !matches(printed, shown, false) {
			return difference(printed, shown)
		}
		return nil
	}
	for {
		printed, changed := t.output(t.from)
		if matches(printed, shown, true) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return difference(printed, shown)
		}
	}
}

// close ends the shell and what it runs.
func (t *terminal) close() {
	kill(t.shell)
	_ = t.stdin.Close() // the shell may have ended already
	<-t.ended
}
