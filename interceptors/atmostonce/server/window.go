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

// window holds which of a session's recent numbers were admitted: the ring of
// RFC 6479, in which advancing clears whole words instead of shifting bits. Who
// has it keeps the session's highest number too, and locks both.
type window [windowWords]uint64

// newWindow gives a window that continues after a highest number, all numbers up
// to which count as admitted.
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

// admit marks a number, from 1, and raises the highest. It is false for a number
// that was marked before, or that lies atmostonce.WindowSize or more below the highest and
// so may have been.
func (w *window) admit(highest *uint64, seq uint64) bool {
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

// advance clears the words after one up to another, all when they are more than
// the window has.
func (w *window) advance(from, to uint64) {
	if to-from >= windowWords {
		*w = window{}
		return
	}
	for word := from + 1; word <= to; word++ {
		w[word%windowWords] = 0
	}
}
