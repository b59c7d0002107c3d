package server

import "sync"

// quota counts sessions against the caps.
type quota struct {
	each, all int // the caps, of a principal and of the server

	// mu guards what follows. It is taken inside of a shard's.
	mu    sync.Mutex
	total int
	// of has the principals that have sessions, and no others.
	of map[principal]int32
}

// take counts one session more, if it may be.
func (q *quota) take(p principal) verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case int(q.of[p]) >= q.each:
		return principalFull
	case q.total >= q.all:
		return serverFull
	}
	q.total++
	q.of[p]++
	return admitted
}

// pressed reports whether a principal, or the server, has nine tenths of the
// sessions that it may.
func (q *quota) pressed(p principal) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	const tenths, parts = 9, 10
	return int(q.of[p])*parts >= q.each*tenths || q.total*parts >= q.all*tenths
}

// release counts one session less.
func (q *quota) release(p principal) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	q.of[p]--
	if q.of[p] == 0 {
		delete(q.of, p)
	}
	if q.total == 0 {
		q.of = make(map[principal]int32) // Go's maps do not shrink
	}
}

// principals returns how many principals have sessions.
func (q *quota) principals() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.of)
}
