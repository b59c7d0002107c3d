// Package lograte limits how often a log says the same, for lines that others can
// cause.
package lograte

import (
	"sync"
	"time"
)

// MaxKeys is how many keys a [Limiter] allows within a minute.
const MaxKeys = 100

// Limiter allows some lines of each key within a minute. The zero value is ready
// to use; its methods are safe for all goroutines.
type Limiter struct {
	mu    sync.Mutex // guards the fields below
	began time.Time
	lines map[string]int // since then, by key
}

// Allow reports whether another line of a key may be logged, most of them within a
// minute, and counts it if so. Of more than [MaxKeys] keys within a minute the rest
// may not.
func (l *Limiter) Allow(key string, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.lines == nil || now.Sub(l.began) >= time.Minute {
		l.began, l.lines = now, make(map[string]int)
	}
	count, known := l.lines[key]
	if count >= most || !known && len(l.lines) >= MaxKeys {
		return false
	}
	l.lines[key]++
	return true
}
