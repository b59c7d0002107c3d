// Package lastgood reads values from files that may be replaced while the program runs.
package lastgood

import (
	"bytes"
	"os"
	"slices"
	"sync"
	"time"
)

// Value is what the content of some files was last made into. While the files cannot be
// used, such as while they are being replaced, the last good value stays in use. Its
// methods are safe for all goroutines.
type Value[T any] struct {
	names []string
	parse func(contents [][]byte) (T, error)

	mu       sync.Mutex // guards the fields below, and is held while the files are read
	contents [][]byte   // those that value was made of; nil if there is no value yet
	value    T
}

// New returns the value that parse makes of the files with these names. parse gets their
// contents in the same order. New does no I/O.
func New[T any](parse func(contents [][]byte) (T, error), names ...string) *Value[T] {
	return &Value[T]{names: names, parse: parse}
}

// Read reads the files and returns the value of their content. It parses them only if
// their content has changed. If they cannot be used, it returns the last good value, the
// zero value if there is none, and an error that says why.
//
// It compares contents and not times of change, which an atomic replacement within the
// resolution of the clock, or a copy with its times, does not change.
func (v *Value[T]) Read() (T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	contents := make([][]byte, len(v.names))
	for i, name := range v.names {
		content, err := os.ReadFile(name) //nolint:gosec // the program names its files
		if err != nil {
			return v.value, err
		}
		contents[i] = content
	}
	if v.contents != nil && slices.EqualFunc(contents, v.contents, bytes.Equal) {
		return v.value, nil
	}
	value, err := v.parse(contents)
	if err != nil {
		return v.value, err
	}
	v.contents, v.value = contents, value
	return value, nil
}

// Interval is how often files are read that nothing else reads.
const Interval = 10 * time.Second

// Poll calls read every [Interval], on a goroutine of its own, until stop. stop waits for
// the goroutine. The caller calls it once.
func Poll(read func()) (stop func()) {
	end := make(chan struct{})
	var polling sync.WaitGroup
	polling.Go(func() {
		ticker := time.NewTicker(Interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				read()
			case <-end:
				return
			}
		}
	})
	return func() {
		close(end)
		polling.Wait()
	}
}
