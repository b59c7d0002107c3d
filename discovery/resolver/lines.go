package resolver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/internal/lograte"
)

// note is a line for the log.
type note struct {
	level   slog.Level
	message string
	address string // of the instance; "" if the line is about the API
	// more returns the other attributes. It is called only if the line is logged.
	more func() []any
}

// Lines limits what resolvers log. Resolvers that share one, such as those of several
// connections to one API, together log each line of an instance once a minute. The zero
// value is ready to use.
type Lines struct{ limiter lograte.Limiter }

// notes are lines that wait to be logged by a timer. The goroutine that adds one may hold
// locks of the registry or of grpc-go, and a program's logger may call either. The methods
// are safe for all goroutines.
type notes struct {
	log   *slog.Logger
	lines *Lines
	api   string
	timer *time.Timer // runs flush

	// mu guards the field below. No other lock is acquired while it is held.
	mu      sync.Mutex
	waiting []func()
}

func newNotes(config Config, api string) *notes {
	n := &notes{log: config.Logger, lines: config.Lines, api: api}
	n.timer = stoppedTimer(n.flush)
	return n
}

// add has a line logged soon, and reports whether it does. It does not if the same line of
// the same instance was logged within the last minute.
func (n *notes) add(line note) bool {
	if !n.lines.limiter.Allow(line.message+" "+line.address, 1) {
		return false
	}
	attributes := []any{"api", n.api}
	if line.address != "" {
		attributes = append(attributes, "address", line.address)
	}
	attributes = append(attributes, line.more()...)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting = append(n.waiting, func() { n.log.Log(context.Background(), line.level, line.message, attributes...) })
	n.timer.Reset(0)
	return true
}

// flush logs the lines that wait.
func (n *notes) flush() {
	n.mu.Lock()
	waiting := n.waiting
	n.waiting = nil
	n.mu.Unlock()
	for _, log := range waiting {
		log()
	}
}

func (n *notes) close() { n.timer.Stop() }
