// Package lograte limits how often a line is logged that another program can cause.
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

// Allow reports whether another line of a key may be logged, and counts it if so. Within
// a minute it allows most lines of each key, and no line of more than [MaxKeys] keys.
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
