package server

import (
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// How long a server remembers a session.
//
// A session is forgotten only together with a rise of the bound to its creation
// time, and a session that was created at the bound or before it never begins.
// So what was forgotten is refused for good, whatever any clock says. "At most
// once" rests on this alone. A new server begins with a bound of zero: it has
// admitted nothing, and what other servers admitted is bound to their
// incarnations.
//
// The rest keeps callers whose clocks are roughly right from being refused. The
// bound only ever rises to times that lie horizon or more back by the server's
// clock at that moment, or crowdedHorizon or more while a limit is nearly reached:
//
//   - The server's clock is right: sessions of callers up to 36 h behind begin,
//     and of callers up to 26 h behind while a limit is nearly reached.
//   - It jumps a day ahead: the bound rises to at most 12 h (2 h) before the
//     right time. New sessions, even of callers that are hours behind, are
//     newer, now and when the clock is back.
//   - It jumps a day back: callers seem to be a day ahead, and are remembered
//     a day longer.
//   - A caller is more than 36 h ahead, or the server as much behind: it is
//     refused, since its session could not be forgotten for as long as it is
//     ahead. Nothing is kept of it, so the same session begins once the clocks
//     are right. So the refusal does not say that the call never runs. Nothing
//     changes for a session that is known.
//   - A caller is two days behind: it is refused, and the error says so. The
//     bound rises to the session that is refused, so that the refusal stays true
//     when the clock goes back.
//
// A session is kept for 24 h after its last call, whatever happens: callers rely
// on that. A principal that opens sessions all the time, such as a host that
// starts a process every 10 s, has 8,640 of them. It would have half as many
// again if each were kept until its creation lies 36 h back, so the sweep does
// not wait for that when a limit is nearly reached. All principals have one
// bound. With a bound for each, a copy that comes from another address could find
// a lower bound there.
//
// Idleness is counted in ticks, not read from a clock: no jump makes a session
// idle, and time in which the process was stopped does not count.
const (
	tick = time.Second
	// collapseAfter is how long a session is idle before only its highest
	// number is kept.
	collapseAfter = uint32(time.Minute / tick)
	// forgetAfter is how long a session is idle before it may be forgotten.
	forgetAfter = uint32(atmostonce.SessionKept / tick)
	// horizon is how far back by the server's clock a session's creation lies
	// before the session may be forgotten, and may not begin any more.
	horizon = 36 * time.Hour
	// crowdedHorizon takes its place for a principal that has nearly as many
	// sessions as it may, and for all principals when the server has.
	crowdedHorizon = 26 * time.Hour
)

const (
	// shardCount is high enough that sweeping one shard of 100,000 sessions takes
	// some 0.1 ms, for which its calls wait.
	shardCount = 256
	// forgetMost is how many sessions a sweep of a shard forgets, for the same
	// reason: the next sweep forgets the rest.
	forgetMost = 128
	// sweepShards is how many shards are swept in a tick: all in 16 ticks.
	sweepShards = 16
)

// result is what [sessions.admit] makes of a call.
type result uint8

const (
	admitted result = iota
	duplicate
	// late: the number lies below all that the session's window remembers.
	late
	principalFull
	serverFull
	// forgotten: the session may have been known before.
	forgotten
	// outdated: the session was never known, and never will be.
	outdated
	// ahead: the session is not known, and was created too far ahead.
	ahead
)

// sessions holds all sessions of a server. Its methods are safe for all
// goroutines. Locks are taken in this order: sweeping or evicting, a shard's, the
// quota's.
type sessions struct {
	seed  maphash.Seed
	now   func() time.Time // the server's clock
	quota quota

	// bound is in Unix milliseconds: see above. It never falls.
	bound atomic.Int64
	// ticks is the time in which idleness is counted.
	ticks  atomic.Uint32
	shards [shardCount]shard

	sweeping sync.Mutex // guards next
	next     int        // the shard that is swept next

	keeping keeping
	// kept is how many bytes the kept ends of calls take, or will take once they are
	// kept.
	kept     atomic.Int64
	evicting sync.Mutex // held while ends are dropped because there are too many
}

// shard is a part of the sessions. A call reads and changes its session in one
// critical section of the shard's lock. That is the total order in which one of
// two copies comes first.
type shard struct {
	mu       sync.Mutex // guards the fields below, and the sessions
	sessions map[sessionKey]*session
	// peak is how many sessions the map had at most when it was swept.
	peak     int
	admitted uint64
	// settled has the highest number of each session for which [sessions.settle] marked
	// a number. No session of the same id and another scope accepts numbers up to it.
	settled map[atmostonce.Session]uint64
	// justInCase and lost are the kept ends of calls whose caller most likely received
	// its reply, and of those whose caller had gone.
	justInCase, lost keptList
	_                [56]byte // a cache line, so that shards do not slow each other
}

// sessionKey finds a session. See [principal.scope].
type sessionKey struct {
	id    atmostonce.Session
	scope principal
}

// session is what the server remembers of a caller's session.
type session struct {
	principal principal
	highest   uint64  // the highest number that was accepted
	window    *window // nil while the session is collapsed
	recent    *recent // nil while nothing is known of recent calls
	used      uint32  // the tick in which the last call was admitted or ended
}

func newSessions(each, all int, now func() time.Time) *sessions {
	s := &sessions{
		seed:    maphash.MakeSeed(),
		now:     now,
		quota:   quota{each: each, all: all, perPrincipal: make(map[principal]int)},
		keeping: newKeeping(Config{}),
	}
	for i := range s.shards {
		s.shards[i].sessions = make(map[sessionKey]*session)
	}
	return s
}

// shardOf returns the shard of a session. The seed keeps callers from choosing it.
func (s *sessions) shardOf(id atmostonce.Session) *shard {
	return &s.shards[maphash.Bytes(s.seed, id[:])%shardCount]
}

// admit accepts a call's number, or returns why it is refused. The caller must call
// [sessions.end] for a call that was admitted.
func (s *sessions) admit(p principal, id atmostonce.Session, seq uint64, call *marked) result {
	shard := s.shardOf(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	known, result := s.mark(shard, sessionKey{id, p.scope()}, p, seq)
	if result == admitted {
		known.recent.begin(call, shard, known, seq)
	}
	return result
}

// mark accepts a number and returns its session, or why it is refused. The shard's lock
// is held.
func (s *sessions) mark(shard *shard, key sessionKey, p principal, seq uint64) (*session, result) {
	known := shard.sessions[key]
	if known == nil {
		return s.begin(shard, key, p, seq)
	}
	if !known.accept(seq) {
		if seq < known.highest && known.highest-seq >= atmostonce.WindowSize {
			return nil, late
		}
		return nil, duplicate
	}
	known.used = s.ticks.Load()
	shard.admitted++
	return known, admitted
}

// end records what became of a call that was admitted. end is nil, or what to keep of
// it, for which the caller has called [sessions.reserve].
func (s *sessions) end(call *marked, became fate, end *kept) {
	shard, known := call.shard, call.session
	shard.mu.Lock()
	defer shard.mu.Unlock()
	known.used = s.ticks.Load()
	known.recent.end(call)
	known.recent.set(known.highest, call.seq, became)
	if end != nil {
		end.session, end.seq, end.method, end.fate, end.at = known, call.seq, call.method, became, known.used
		s.keep(shard, end)
	}
	if ended := call.ended.Load(); ended != nil {
		close(*ended)
	}
}

// accept accepts a number of the session, and reports whether it was not accepted
// before. The shard's lock is held.
func (s *session) accept(seq uint64) bool {
	if s.window == nil {
		if seq <= s.highest { // any of these may have been accepted
			return false
		}
		s.window = newWindow(s.highest)
	}
	before := s.highest
	if !s.window.accept(&s.highest, seq) {
		return false
	}
	if s.recent == nil {
		s.recent = new(recent)
	}
	s.recent.advance(before, s.highest)
	return true
}

// begin begins a session with its first number, or returns why not. The shard's lock is
// held.
func (s *sessions) begin(shard *shard, key sessionKey, p principal, seq uint64) (*session, result) {
	created := key.id.Created().UnixMilli()
	if created <= s.bound.Load() {
		return nil, forgotten
	}
	if created <= s.oldest() {
		s.raise(created)
		return nil, outdated
	}
	if created > s.now().Add(horizon).UnixMilli() {
		return nil, ahead
	}
	highest := shard.settled[key.id]
	if seq <= highest {
		return nil, duplicate
	}
	if full := s.quota.take(p); full != admitted {
		return nil, full
	}
	begun := &session{principal: p, highest: highest, used: s.ticks.Load()}
	begun.accept(seq)
	shard.sessions[key] = begun
	shard.admitted++
	return begun, admitted
}

// oldest returns the creation time up to which sessions do not begin and may be
// forgotten.
func (s *sessions) oldest() int64 { return s.now().Add(-horizon).UnixMilli() }

// mayForget reports whether an idle session that was created at a time may be
// forgotten. oldest is what [sessions.oldest] returns now.
func (s *sessions) mayForget(created, oldest int64, p principal) bool {
	const sooner = int64((horizon - crowdedHorizon) / time.Millisecond)
	return created <= oldest || created <= oldest+sooner && s.quota.nearlyFull(p)
}

// raise raises the bound to a creation time, unless it is there already.
func (s *sessions) raise(created int64) {
	for {
		bound := s.bound.Load()
		if created <= bound || s.bound.CompareAndSwap(bound, created) {
			return
		}
	}
}

// sweep lets ticks pass and sweeps the next shards. All shards are swept within
// shardCount/sweepShards calls.
func (s *sessions) sweep(ticks uint32) {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	now := s.ticks.Add(ticks)
	oldest := s.oldest()
	for range sweepShards {
		s.sweepShard(&s.shards[s.next], now, oldest)
		s.next = (s.next + 1) % shardCount
	}
}

// sweepShard collapses and forgets sessions of a shard that are idle.
func (s *sessions) sweepShard(shard *shard, now uint32, oldest int64) {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.peak = max(shard.peak, len(shard.sessions))
	s.expire(shard, now)
	left := forgetMost
	for key, known := range shard.sessions {
		idle := now - known.used
		if idle >= collapseAfter {
			known.collapse()
		}
		if idle < forgetAfter || left == 0 || known.recent != nil {
			continue
		}
		created := key.id.Created().UnixMilli()
		if !s.mayForget(created, oldest, known.principal) {
			continue
		}
		// Raise the bound before removing the session, and both under the lock.
		// Otherwise a waiting call could find no session and a bound that is too
		// low, and run again.
		s.raise(created)
		s.quota.release(known.principal)
		delete(shard.sessions, key)
		delete(shard.settled, key.id) // the bound takes its place
		left--
	}
	shard.shrink()
}

// collapse forgets all but the highest number of an idle session, and its calls that run
// or whose end is kept. The shard's lock is held.
func (s *session) collapse() {
	s.window = nil
	if s.recent != nil && s.recent.isIdle() {
		s.recent = nil
	}
}

// shrink replaces the map when most of its sessions are gone: Go's maps do not
// shrink. The lock is held.
func (s *shard) shrink() {
	const sparse = 4
	if len(s.sessions)*sparse >= s.peak {
		return
	}
	smaller := make(map[sessionKey]*session, len(s.sessions))
	maps.Copy(smaller, s.sessions)
	s.sessions, s.peak = smaller, len(smaller)
}

// count returns how many sessions there are, how many of them are collapsed, and
// how many calls were admitted.
func (s *sessions) count() (all, collapsed int, calls uint64) {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		all += len(shard.sessions)
		for _, known := range shard.sessions {
			if known.window == nil {
				collapsed++
			}
		}
		calls += shard.admitted
		shard.mu.Unlock()
	}
	return all, collapsed, calls
}
