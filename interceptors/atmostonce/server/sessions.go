package server

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// What a server remembers of a session, and for how long.
//
// A session is forgotten only together with a rise of the bound to its creation
// time, and no session that is created at the bound or before it is ever begun.
// So what was forgotten is refused for good, whatever any clock says, and that
// is all that "at most once" rests on. A new server begins with a bound of
// zero: it has admitted nothing, and what others admitted is bound to their
// incarnations.
//
// The rest is so that no caller in good order is hurt. The bound only ever rises
// to times that lie horizon or more back by the server's clock at that moment,
// or pressedHorizon or more while a cap is nearly reached:
//
//   - The server's clock is right: sessions of callers up to 36 h behind begin,
//     and of callers up to 26 h behind while a cap is nearly reached.
//   - It jumps a day ahead: the bound rises to at most 12 h (2 h) before the
//     right time. New sessions, even of callers that are hours behind, are
//     newer, now and when the clock is back.
//   - It jumps a day back: callers seem to be a day ahead, and are remembered
//     a day longer.
//   - A caller is more than 36 h ahead, or the server as much behind: it is
//     refused, since its session could not be forgotten for as long as it is
//     ahead. Nothing is kept of it, so the same session begins once the clocks
//     are right; for that reason the refusal does not say that the call never
//     runs. Of a session that is known nothing changes.
//   - A caller is two days behind: it is refused and told so. The bound rises to
//     the session that is refused, so that the refusal stays true when the
//     clock goes back.
//
// A session is kept for 24 h after its last call, whatever happens: callers
// reckon with that. A principal that opens sessions all the time, such as a host
// that starts a process every 10 s, has so many of them. It would have half as
// many again if each were kept until its creation lies 36 h back, which is why
// the sweep does not wait for that when a cap is nearly reached. The bound is one
// for all principals, not one for each: a copy may come from another address,
// and would there find a lower bound.
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
	// before the session may be forgotten, and is not begun any more.
	horizon = 36 * time.Hour
	// pressedHorizon takes its place for a principal that has nearly as many
	// sessions as it may, and for all when the server has.
	pressedHorizon = 26 * time.Hour
)

const (
	// shardCount is high enough that going through one shard of a million
	// sessions takes some 0.1 ms, for which its calls wait.
	shardCount = 256
	// forgetMost is how many sessions a shard forgets at a time, for the same
	// reason: the rest have their turn when the shard is gone through again.
	forgetMost = 128
	// sweepShards is how many shards a tick goes through: all in 16 ticks.
	sweepShards = 16
)

// verdict is what admit makes of a call.
type verdict uint8

const (
	admitted verdict = iota
	duplicate
	// late: the number lies below all that the session's window knows of.
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

// sessions holds all sessions of a server.
type sessions struct {
	seed  maphash.Seed
	now   func() time.Time // the server's clock
	quota quota

	// bound is in Unix milliseconds: see above. It never falls.
	bound atomic.Int64
	// ticks is the time that idleness is counted in.
	ticks  atomic.Uint32
	shards [shardCount]shard

	sweeping sync.Mutex // guards next
	next     int        // the shard that is swept next
}

// shard is a part of the sessions. All that is done to a session is done under
// its shard's lock, in one critical section a call: that is the total order in
// which one of two copies comes first.
type shard struct {
	table // as all else here guarded by mu

	mu       sync.Mutex
	windows  []*window // by entry.window-1; nil where free
	free     []uint32  // values for entry.window
	admitted uint64
	_        [24]byte // two cache lines, so that shards do not slow each other
}

func newSessions(each, all int, now func() time.Time) *sessions {
	return &sessions{
		seed:  maphash.MakeSeed(),
		now:   now,
		quota: quota{each: each, all: all, of: make(map[principal]int32)},
	}
}

// admit marks a call's number, unless it must be refused.
func (s *sessions) admit(p principal, session atmostonce.Session, seq uint64) verdict {
	hashed := hash(s.seed, session, p)
	shard := &s.shards[hashed%shardCount]
	shard.mu.Lock()
	e := shard.find(hashed, &session, p.scope())
	if e == nil {
		// Not deferred: this is the one path of two that is rare.
		verdict := s.begin(shard, hashed, p, session, seq)
		shard.mu.Unlock()
		return verdict
	}
	marked := shard.mark(e, seq)
	if marked {
		e.used = s.ticks.Load()
		shard.admitted++
	}
	below := seq < e.highest && e.highest-seq >= atmostonce.WindowSize
	shard.mu.Unlock()
	switch {
	case marked:
		return admitted
	case below:
		return late
	default:
		return duplicate
	}
}

// mark marks a number of a session that is known. Its caller has the lock.
func (s *shard) mark(e *entry, seq uint64) bool {
	if e.window == 0 {
		if seq <= e.highest { // all of which may have been admitted
			return false
		}
		e.window = s.open(e.highest)
	}
	return s.windows[e.window-1].admit(&e.highest, seq)
}

// begin begins a session with its first call. Its caller has the shard's lock.
func (s *sessions) begin(shard *shard, hashed uint64, p principal, session atmostonce.Session, seq uint64) verdict {
	created := session.Created().UnixMilli()
	if created <= s.bound.Load() {
		return forgotten
	}
	if created <= s.oldest() {
		s.raise(created)
		return outdated
	}
	if created > s.now().Add(horizon).UnixMilli() {
		return ahead
	}
	if full := s.quota.take(p); full != admitted {
		return full
	}
	var highest uint64
	window := shard.open(highest)
	shard.windows[window-1].admit(&highest, seq)
	shard.insert(s.seed, hashed, entry{
		session:   session,
		principal: p,
		highest:   highest,
		used:      s.ticks.Load(),
		window:    window,
	})
	shard.admitted++
	return admitted
}

// oldest is the creation time up to which sessions are not begun and may be
// forgotten.
func (s *sessions) oldest() int64 { return s.now().Add(-horizon).UnixMilli() }

// mayForget reports whether a session that was created at a time and is idle may
// be forgotten, when oldest is that of now.
func (s *sessions) mayForget(created, oldest int64, p principal) bool {
	const pressed = int64((horizon - pressedHorizon) / time.Millisecond)
	return created <= oldest || created <= oldest+pressed && s.quota.pressed(p)
}

// raise raises the bound to a creation time, if it is not there yet.
func (s *sessions) raise(created int64) {
	for {
		bound := s.bound.Load()
		if created <= bound || s.bound.CompareAndSwap(bound, created) {
			return
		}
	}
}

// open makes a window.
func (s *shard) open(highest uint64) uint32 {
	w := newWindow(highest)
	if last := len(s.free) - 1; last >= 0 {
		at := s.free[last]
		s.free = s.free[:last]
		s.windows[at-1] = w
		return at
	}
	s.windows = append(s.windows, w)
	return uint32(len(s.windows)) //nolint:gosec // at most as many as sessions
}

// collapse drops a session's window.
func (s *shard) collapse(e *entry) {
	s.windows[e.window-1] = nil
	s.free = append(s.free, e.window)
	e.window = 0
	if len(s.free) == len(s.windows) {
		s.windows, s.free = nil, nil
	}
}

// sweep lets ticks pass and goes through some of the shards, one after the
// other: all of them is in turn within shardCount/sweepShards calls.
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

func (s *sessions) sweepShard(shard *shard, now uint32, oldest int64) {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	left := forgetMost
	for i := 0; i < len(shard.places); i++ {
		e := &shard.places[i]
		if e.highest == 0 {
			continue
		}
		idle := now - e.used
		if e.window != 0 && idle >= collapseAfter {
			shard.collapse(e)
		}
		if idle < forgetAfter || left == 0 {
			continue
		}
		created := e.session.Created().UnixMilli()
		if !s.mayForget(created, oldest, e.principal) {
			continue
		}
		// First the bound, then the session, both before the lock is let go: a
		// call that waits for it finds neither the session nor a bound below.
		s.raise(created)
		s.quota.release(e.principal)
		shard.remove(s.seed, i)
		left--
		i-- // what was moved back into the place
	}
	shard.shrink(s.seed)
}

// count gives how many sessions there are, how many of them are collapsed, and
// how many calls were admitted.
func (s *sessions) count() (all, collapsed int, calls uint64) {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		all += shard.count
		collapsed += shard.count - (len(shard.windows) - len(shard.free))
		calls += shard.admitted
		shard.mu.Unlock()
	}
	return all, collapsed, calls
}
