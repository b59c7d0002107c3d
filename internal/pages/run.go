package pages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Runner runs the blocks of pages.
type Runner struct {
	// Dir is the folder in which the terminals begin, and below which files are written.
	Dir string
	// Environment is that of all terminals, as in [exec.Cmd].
	Environment []string
	// Replace has texts of commands that are replaced, such as a port that may be in use.
	Replace *strings.Replacer
	// Patience is how long a block may take.
	Patience time.Duration
	// Begin is called before each block.
	Begin func(Block)

	terminals map[string]*terminal
	// last is the terminal of the last commands.
	last *terminal
}

// Run runs the blocks of a page in their order, and compares what the commands print with what
// the page shows. It ends at the first difference. Terminals stay open for the next page.
func (r *Runner) Run(ctx context.Context, page Page) error {
	r.last = nil
	for _, block := range page.Blocks {
		run, err := parseComment(block.Comment)
		if err == nil && run.does != nothing {
			r.Begin(block)
			err = r.block(ctx, block, run)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", page.Path, block.Line, err)
		}
	}
	return nil
}

// Close ends all terminals and what runs in them.
func (r *Runner) Close() {
	for _, terminal := range r.terminals {
		terminal.close()
	}
}

// block runs one block.
func (r *Runner) block(ctx context.Context, block Block, run comment) error {
	ctx, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	path := filepath.Join(r.Dir, filepath.FromSlash(run.name))
	switch run.does {
	case writes:
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(block.Text), 0o600)
	case shows:
		file, err := os.ReadFile(path) //nolint:gosec // the page names it
		if err == nil && !strings.Contains("\n"+string(file), "\n"+block.Text) {
			err = fmt.Errorf("%s does not have the lines\n%s", run.name, block.Text)
		}
		return err
	case prints:
		if run.name != "" {
			r.last = r.terminals[run.name]
		}
		if r.last == nil {
			return errors.New("there are no commands before this output")
		}
		return r.last.shows(ctx, block.Text)
	default:
		var err error
		if r.last, err = r.terminal(ctx, run.name); err != nil {
			return err
		}
		return r.last.run(ctx, r.Replace.Replace(block.Text), run)
	}
}

// terminal returns the terminal of a name, and opens it if it is new.
func (r *Runner) terminal(ctx context.Context, name string) (*terminal, error) {
	if r.terminals == nil {
		r.terminals = make(map[string]*terminal)
	}
	if open := r.terminals[name]; open != nil {
		return open, nil
	}
	open, err := openTerminal(ctx, r.Dir, r.Environment)
	if err == nil {
		r.terminals[name] = open
	}
	return open, err
}

// What a comment asks for.
type action int

const (
	nothing action = iota
	runs
	prints
	shows
	writes
)

// comment is the comment of a block, parsed.
type comment struct {
	does action
	// name is that of a terminal or a file.
	name string
	// until is the output that ends a block whose command goes on.
	until string
	// interrupts is whether Ctrl-C comes before the commands.
	interrupts bool
	// exit is the exit code of the commands.
	exit int
}

// parseComment parses the comment of a block.
func parseComment(text string) (comment, error) {
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "file":
		return comment{does: writes, name: rest}, nil
	case "part":
		return comment{does: shows, name: strings.TrimPrefix(rest, "of ")}, nil
	case "output":
		return comment{does: prints, name: strings.TrimPrefix(rest, "of terminal ")}, nil
	case "terminal":
		return parseTerminal(rest)
	default:
		return comment{}, nil
	}
}

// parseTerminal parses what follows the word terminal.
func parseTerminal(text string) (comment, error) {
	name, rest, _ := strings.Cut(text, " ")
	parsed := comment{does: runs, name: name}
	if after, found := strings.CutPrefix(rest, "interrupt"); found {
		parsed.interrupts, rest = true, strings.TrimPrefix(after, " ")
	}
	var err error
	switch word, value, _ := strings.Cut(rest, " "); word {
	case "until":
		_, err = fmt.Sscanf(value, "%q", &parsed.until)
	case "exit":
		_, err = fmt.Sscanf(value, "%d", &parsed.exit)
	case "":
	default:
		err = fmt.Errorf("the comment %q is not understood", text)
	}
	return parsed, err
}
