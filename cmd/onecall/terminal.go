package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/onecall-dev/onecall/internal/quote"
)

// Colours of terminals.
const (
	plainColour = "\x1b[0m"
	bold        = "\x1b[1m"
	red         = "\x1b[31m"
	green       = "\x1b[32m"
	yellow      = "\x1b[33m"
)

// eraseLine goes back to the begin of the line and erases it.
const eraseLine = "\r\x1b[K"

// terminal returns how many columns a terminal has, and whether this is one.
func terminal(out io.Writer) (columns int, is bool) {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	columns, _, err := term.GetSize(int(file.Fd()))
	if err != nil || columns < 1 {
		columns = 80
	}
	return columns, true
}

// coloured returns text in a colour, if standard output shows colours.
func (p *program) coloured(colour, text string) string {
	if colour == "" || text == "" || !p.colours() {
		return text
	}
	return colour + text + plainColour
}

// colours reports whether standard output is a terminal that shows colours.
func (p *program) colours() bool {
	_, is := terminal(p.out)
	return is && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// fitted returns a line as wide as a terminal on standard output, with "…" at the end if it
// is longer. Elsewhere no line is cut.
func (p *program) fitted(line string) string {
	columns, is := terminal(p.out)
	if !is {
		return line
	}
	return clip(line, columns)
}

// clip returns the first characters of a line, with "…" as the last if it is longer.
func clip(line string, columns int) string {
	if characters := []rune(line); len(characters) > columns {
		return string(characters[:max(columns-1, 0)]) + "…"
	}
	return line
}

// quietFor is how long a command waits before it shows what it waits for.
const quietFor = time.Second

// waiting shows on a terminal what the command waits for, from quietFor on until done is
// called.
func (p *program) waiting(what string) (done func()) {
	began := time.Now()
	return p.status(quietFor, func() string {
		return fmt.Sprintf("%s … %s", what, time.Since(began).Round(time.Second))
	})
}

// shownEvery is how often a status is shown.
const shownEvery = 200 * time.Millisecond

// status shows a line on standard error until done is called, which erases it. Unless that
// is a terminal it does nothing.
func (p *program) status(after time.Duration, line func() string) (done func()) {
	if _, is := terminal(p.errs); !is {
		return func() {}
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		timer := time.NewTimer(after)
		defer timer.Stop()
		for shown := false; ; {
			select {
			case <-timer.C:
				columns, _ := terminal(p.errs)
				fmt.Fprint(p.errs, eraseLine+clip(quote.Line(line(), columns*len("…")), columns-1))
				shown = true
				timer.Reset(shownEvery)
			case <-stop:
				if shown {
					fmt.Fprint(p.errs, eraseLine)
				}
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(stop)
		running.Wait()
	})
}
