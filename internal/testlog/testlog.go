// Package testlog stores log output for tests.
package testlog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/onecall-dev/onecall/internal/eventually"
)

// Log stores what is written to it. The zero value is empty and ready to use. Its methods
// are safe for concurrent use.
type Log struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// Write implements [io.Writer].
func (l *Log) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

// String returns everything that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Count returns how many times a text was written.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// Until waits until a text was written that many times.
func (l *Log) Until(tb testing.TB, text string, times int) {
	tb.Helper()
	eventually.True(tb, fmt.Sprintf("%d times %q in the log", times, text), func() bool { return l.Count(text) >= times })
}

// Logger returns a logger that writes lines of text, from level Info, to the log.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
