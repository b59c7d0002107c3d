package server

import "sync/atomic"

const (
	// recentSize is how far below the highest number of its session a number may be
	// and still have its fate remembered.
	recentSize = 1024

	fateBits     = 2
	fatesPerWord = wordBits / fateBits
	// recentWords has one word more than recentSize needs: see windowWords.
	recentWords = recentSize/fatesPerWord + 1
)

// fate is what became of a marked call. The first four take fateBits each.
type fate uint8

const (
	// fateUnknown is the fate of calls that the server does not know, or has forgotten.
	fateUnknown fate = iota
	// fateRefused: the handler did not start and never will.
	fateRefused
	// fateOK: the call ended without an error.
	fateOK
	// fateFailed: the handler started, and the call ended with an error.
	fateFailed
	// fateRunning: the call has not ended.
	fateRunning
)

// recent is what became of the recent calls of a session. It belongs to a session, and
// the shard's lock guards it.
type recent struct {
	// fates is a ring like that of [window], with fateBits for each number.
	fates [recentWords]uint64
	// running is the newest of the calls that have not ended, the head of a list.
	running *marked
	// kept has the ends that are kept, by number.
	kept map[uint64]*kept
	// oldest and newest are the ends that are kept just in case, a list, and bytes is
	// what they take. large is another one, which is larger than they may be together.
	oldest, newest *kept
	bytes          int
	large          *kept
}

// advance forgets the fates of the numbers that leave the ring when the highest number
// rises.
func (r *recent) advance(from, to uint64) {
	from, to = from/fatesPerWord, to/fatesPerWord
	if to-from >= recentWords {
		r.fates = [recentWords]uint64{}
		return
	}
	for word := from + 1; word <= to; word++ {
		r.fates[word%recentWords] = 0
	}
}

// fate returns the fate of a number. highest is the session's highest number.
func (r *recent) fate(highest, seq uint64) fate {
	if !isRecent(highest, seq) {
		return fateUnknown
	}
	return fate(r.fates[seq/fatesPerWord%recentWords] >> (seq % fatesPerWord * fateBits) & (1<<fateBits - 1))
}

// set remembers the fate of a number, which has none yet, if the number is recent.
func (r *recent) set(highest, seq uint64, f fate) {
	if isRecent(highest, seq) {
		r.fates[seq/fatesPerWord%recentWords] |= uint64(f) << (seq % fatesPerWord * fateBits)
	}
}

// isRecent reports whether the ring has a number.
func isRecent(highest, seq uint64) bool { return seq <= highest && highest-seq < recentSize }

// isIdle reports whether nothing but fates is lost if a session forgets its recent
// calls.
func (r *recent) isIdle() bool { return r.running == nil && len(r.kept) == 0 }

// add adds an end to those that are kept just in case.
func (r *recent) add(k *kept) {
	if r.newest != nil {
		r.newest.younger = k
	} else {
		r.oldest = k
	}
	r.newest = k
	r.bytes += k.bytes()
}

// removeOldest removes the oldest of those ends.
func (r *recent) removeOldest() {
	r.bytes -= r.oldest.bytes()
	r.oldest = r.oldest.younger
	if r.oldest == nil {
		r.newest = nil
	}
}

// marked is a call that was marked and has not ended. The shard's lock guards its
// fields, except those that never change.
type marked struct {
	// method is gRPC's path. It never changes.
	method string

	// These never change once the call is marked.
	shard   *shard
	session *session
	seq     uint64

	newer, older *marked // in the list of the session
	// ended is closed when the call has ended. It is nil until a caller waits for that.
	ended atomic.Pointer[chan struct{}]
}

// begin adds a call of a session to those that run.
func (r *recent) begin(call *marked, shard *shard, of *session, seq uint64) {
	call.shard, call.session, call.seq = shard, of, seq
	call.older = r.running
	if call.older != nil {
		call.older.newer = call
	}
	r.running = call
}

// end removes a call from those that run.
func (r *recent) end(call *marked) {
	if call.newer != nil {
		call.newer.older = call.older
	} else {
		r.running = call.older
	}
	if call.older != nil {
		call.older.newer = call.newer
	}
	call.newer, call.older = nil, nil
}
