package server

import (
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

const (
	// windowWords has one word more than the window needs, so that the word
	// which the highest number opens never holds numbers still in the window.
	windowWords = atmostonce.WindowSize/wordBits + 1
	wordBits    = 64
)

// window remembers which of a session's recent numbers were accepted. It is the
// ring of RFC 6479, in which advancing clears whole words instead of shifting
// bits. The session has its highest number, and its shard the lock of both.
type window [windowWords]uint64

// newWindow returns a window that continues after a highest number. All numbers
// up to it count as accepted.
func newWindow(highest uint64) *window {
	w := new(window)
	if highest == 0 {
		return w
	}
	for i := range w {
		w[i] = ^uint64(0)
	}
	// The bits above the highest share its word, which is not cleared again.
	w[highest/wordBits%windowWords] = 1<<(highest%wordBits)<<1 - 1
	return w
}

// accept accepts a number, from 1, raises the highest, and reports whether the
// number is new. It is not if it was accepted before, and counts as if it was
// when it lies WindowSize or more below the highest.
func (w *window) accept(highest *uint64, seq uint64) bool {
	word := seq / wordBits
	switch {
	case seq > *highest:
		w.advance(*highest/wordBits, word)
		*highest = seq
	case *highest-seq >= atmostonce.WindowSize: // no sum, which could overflow
		return false
	}
	at, bit := &w[word%windowWords], uint64(1)<<(seq%wordBits)
	if *at&bit != 0 {
		return false
	}
	*at |= bit
	return true
}

// advance clears the words after one up to another. It clears all when they are
// more than the window has.
func (w *window) advance(from, to uint64) {
	if to-from >= windowWords {
		*w = window{}
		return
	}
	for word := from + 1; word <= to; word++ {
		w[word%windowWords] = 0
	}
}
