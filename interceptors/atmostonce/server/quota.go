package server

import (
	"sync"
)

// quota counts sessions against the limits.
type quota struct {
	each, all int // the limits, of a principal and of the server

	mu    sync.Mutex // guards the fields below
	total int
	// perPrincipal has the principals that have sessions, and no others.
	perPrincipal map[principal]int
}

// take counts one session more, if it may be.
func (q *quota) take(p principal) result {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.perPrincipal[p] >= q.each:
		return principalFull
	case q.total >= q.all:
		return serverFull
	}
	q.total++
	q.perPrincipal[p]++
	return admitted
}

// nearlyFull reports whether a principal, or the server, has nine tenths of the
// sessions that it may.
func (q *quota) nearlyFull(p principal) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	const tenths, parts = 9, 10
	return q.perPrincipal[p]*parts >= q.each*tenths || q.total*parts >= q.all*tenths
}

// release counts one session less.
func (q *quota) release(p principal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	q.perPrincipal[p]--
	if q.perPrincipal[p] == 0 {
		delete(q.perPrincipal, p)
	}
	if q.total == 0 {
		q.perPrincipal = make(map[principal]int) // Go's maps do not shrink
	}
}

// principals returns how many principals have sessions.
func (q *quota) principals() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.perPrincipal)
}
