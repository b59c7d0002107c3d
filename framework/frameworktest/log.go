package frameworktest

import (
	"io"
	"sync"
)

// testLog writes to the output of a test until the test ends.
type testLog struct {
	mu sync.Mutex // guards the field below, and is held while it is written to
	to io.Writer  // nil after close
}

// Write implements [io.Writer].
func (l *testLog) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		return len(text), nil
	}
	return l.to.Write(text)
}

func (l *testLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = nil
}
