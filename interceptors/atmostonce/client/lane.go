package client

import (
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// lane numbers the attempts of a caller to one incarnation. It makes sure that an
// attempt is not overtaken by as many others as a server's window is wide, because
// the server would take the late one for a copy. An attempt can be that late in
// normal operation, if it waits for a stream while grpc-go serves newer ones.
//
// Before the next number would be too far above that of an attempt that has not
// ended, the lane uses another counter, which has a session of its own. It may use
// the first counter again when its late attempts have ended. So there are never more
// counters than attempts in flight. Its methods are safe for all goroutines. A
// lane's lock is taken before a counter's.
type lane struct {
	incarnation discovery.Incarnation
	now         func() time.Time
	current     atomic.Pointer[counter]

	mu       sync.Mutex // guards counters, and is held while current is replaced
	counters []*counter // the first is of the session that all lanes share
}

// newLane returns a lane that begins with a session.
func newLane(incarnation discovery.Incarnation, session atmostonce.Session, now func() time.Time) *lane {
	l := &lane{incarnation: incarnation, now: now, counters: []*counter{newCounter(incarnation, session)}}
	l.current.Store(l.counters[0])
	return l
}

// draw returns the next number, and its counter.
func (l *lane) draw() (*counter, uint64) {
	for {
		current := l.current.Load()
		if seq := current.draw(); seq != 0 {
			return current, seq
		}
		l.change(current)
	}
}

// change replaces the current counter, which has no number left, by the one that has
// the most, or by a new one if none has many.
func (l *lane) change(exhausted *counter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.Load() != exhausted {
		return
	}
	most, best := uint64(manyNumbers-1), (*counter)(nil)
	for _, candidate := range l.counters {
		if left := candidate.left(); left > most {
			most, best = left, candidate
		}
	}
	if best == nil {
		best = newCounter(l.incarnation, atmostonce.NewSession(l.now()))
		l.counters = append(l.counters, best)
	}
	l.current.Store(best)
}

// manyNumbers is how many numbers a counter must have left to become the current
// one, so that the counter does not change with each attempt.
const manyNumbers = atmostonce.WindowSize / 4

// drop removes the counter of an expired session, unless it is the first.
func (l *lane) drop(expired atmostonce.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.counters[0]
	if current := l.current.Load(); current != first && current.session == expired {
		l.current.Store(first)
	}
	l.counters = slices.DeleteFunc(l.counters, func(c *counter) bool { return c != first && c.session == expired })
}

// counter numbers the attempts of one session to one incarnation. It draws no number
// that is WindowSize or more above that of an attempt that has not ended. Its methods
// are safe for all goroutines.
type counter struct {
	session atmostonce.Session
	// prefix is what the values of all its identities begin with.
	prefix string
	last   atomic.Uint64
	// lowest is the lowest number whose attempt has not ended, as of the last raise.
	// It never falls.
	lowest atomic.Uint64
	// ended is a ring with a bit for each number from lowest on. The bit is set when
	// the attempt has ended, and cleared before lowest rises above it.
	ended [atmostonce.WindowSize / wordBits]atomic.Uint64

	raising sync.Mutex // held while lowest is raised
}

// wordBits is how many numbers a word of a ring has.
const wordBits = 64

func newCounter(incarnation discovery.Incarnation, session atmostonce.Session) *counter {
	first := atmostonce.Identity{Incarnation: incarnation, Session: session}.Value()
	c := &counter{session: session, prefix: strings.TrimSuffix(first, "0")}
	c.lowest.Store(1)
	return c
}

// draw returns the next number, or 0 if it would be too far above the lowest.
func (c *counter) draw() uint64 {
	for {
		last := c.last.Load()
		if last+1 >= c.lowest.Load()+atmostonce.WindowSize && last+1 >= c.raise()+atmostonce.WindowSize {
			return 0
		}
		if c.last.CompareAndSwap(last, last+1) {
			return last + 1
		}
	}
}

// left returns how many numbers can be drawn.
func (c *counter) left() uint64 {
	last := c.last.Load() // first: lowest only rises
	return c.raise() + atmostonce.WindowSize - 1 - last
}

// end notes that the attempt of a number has ended. It is called once for each.
func (c *counter) end(seq uint64) {
	c.ended[seq/wordBits%uint64(len(c.ended))].Or(1 << (seq % wordBits))
}

// raise raises lowest to the lowest number that has not ended, and returns it.
func (c *counter) raise() uint64 {
	c.raising.Lock()
	defer c.raising.Unlock()
	lowest := c.lowest.Load()
	for {
		word, at := &c.ended[lowest/wordBits%uint64(len(c.ended))], lowest%wordBits
		count := bits.TrailingZeros64(^(word.Load() >> at)) // how many in a row have ended, in this word
		if count == 0 {
			return lowest
		}
		word.And(^(^uint64(0) >> (wordBits - count) << at)) // first: once lowest is above them, other numbers use the bits
		lowest += uint64(count)                             //nolint:gosec // from 1 to 64
		c.lowest.Store(lowest)
	}
}
