package frameworktest

import (
	"context"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// markKey is the label of the goroutines of a kit.
	markKey = "onecall-frameworktest-kit"
	// leaksAfter is how long goroutines of a kit may take to end. It only passes if one
	// never ends.
	leaksAfter = 10 * time.Second
	// leaksPause is the time between two looks.
	leaksPause = time.Millisecond
)

// kits counts the kits of the process, so that each has a label of its own.
var kits atomic.Uint64

// marked finds the goroutines of one kit among those of the process. They have a label of
// package pprof, which a goroutine inherits from the one that starts it. So tests that run
// in parallel do not see each other's goroutines.
type marked struct {
	value  string
	labels context.Context //nolint:containedctx // only for its labels
}

func newMarked() *marked {
	value := strconv.FormatUint(kits.Add(1), 10)
	return &marked{value: value, labels: pprof.WithLabels(context.Background(), pprof.Labels(markKey, value))}
}

// do runs f on a goroutine with the label, and reports whether it returned.
func (m *marked) do(f func()) (returned bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pprof.SetGoroutineLabels(m.labels)
		f()
		returned = true
	}()
	<-done
	return returned
}

// check fails the test if goroutines with the label do not end.
func (m *marked) check(tb testing.TB) {
	tb.Helper()
	for end := time.Now().Add(leaksAfter); ; time.Sleep(leaksPause) {
		left := m.left()
		if left == "" {
			return
		}
		if time.Now().After(end) {
			tb.Errorf("frameworktest: goroutines of handlers, or of what they started, still run after the end of the test: "+
				"a handler must end when its context does, and end what it starts\n%s", left)
			return
		}
	}
}

// left returns the stacks of the goroutines with the label.
func (m *marked) left() string {
	var profile strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&profile, 1) // it writes to memory
	mark := strconv.Quote(markKey) + ":" + strconv.Quote(m.value)
	var found []string
	for goroutine := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(goroutine, mark) {
			found = append(found, goroutine)
		}
	}
	return strings.Join(found, "\n\n")
}
