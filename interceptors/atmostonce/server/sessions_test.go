package server

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

const (
	someone principal = 2 * (iota + 1)
	other
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a server's sessions with a clock of their own, and time that passes
// beside it.
type world struct {
	tb       testing.TB
	sessions *sessions

	passed time.Duration // since epoch
	jump   time.Duration // of the server's clock
}

func newWorld(tb testing.TB, each, all int) *world {
	tb.Helper()
	w := &world{tb: tb}
	w.sessions = newSessions(each, all, func() time.Time { return w.time().Add(w.jump) })
	return w
}

// once admits a call that ends at once with an error.
func (s *sessions) once(p principal, id atmostonce.Session, seq uint64) result {
	var call marked
	result := s.admit(p, id, seq, &call)
	if result == admitted {
		s.end(&call, fateFailed, nil)
	}
	return result
}

func (w *world) time() time.Time { return epoch.Add(w.passed) }

// pass lets time pass, and sweeps all once.
func (w *world) pass(d time.Duration) {
	w.passed += d
	sweepAll(w.sessions, uint32(d/tick))
}

func (w *world) want(want result, session atmostonce.Session, seq uint64) {
	w.tb.Helper()
	if got := w.sessions.once(someone, session, seq); got != want {
		w.tb.Fatalf("admit(%v, %d) = %v after %v, want %v", session, seq, got, w.passed, want)
	}
}

func (w *world) wantCount(all, collapsed int) {
	w.tb.Helper()
	if gotAll, gotCollapsed, _ := w.sessions.count(); gotAll != all || gotCollapsed != collapsed {
		w.tb.Fatalf("%d sessions, %d of them collapsed; want %d, %d", gotAll, gotCollapsed, all, collapsed)
	}
	if w.sessions.quota.total != all {
		w.tb.Fatalf("%d sessions are counted against the cap of %d", w.sessions.quota.total, all)
	}
}

func TestAnIdleSessionIsCollapsedToItsHighestNumber(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time())
	w.want(admitted, session, 5)
	w.want(admitted, session, 3)
	w.pass(59 * time.Second)
	w.wantCount(1, 0)
	w.want(admitted, session, 4) // late, but in the window; and it is used again
	w.pass(59 * time.Second)
	w.wantCount(1, 0)
	w.pass(time.Second)
	w.wantCount(1, 1)
	for seq := range uint64(5) {
		w.want(duplicate, session, seq+1) // 1 and 2 may have been
	}
	w.wantCount(1, 1) // which opened nothing
	w.want(admitted, session, 8)
	w.wantCount(1, 0)
	for _, seq := range []uint64{1, 2, 3, 4, 5, 8} {
		w.want(duplicate, session, seq)
	}
	w.want(admitted, session, 7)
	w.want(admitted, session, 6)
	w.want(duplicate, session, 6)
}

func TestASessionIsForgottenWhenItIsIdleForADayAndOldEnough(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		ahead time.Duration // the caller's clock
		until time.Duration // from then on it is forgotten
	}{
		"of a caller with the right time": {0, horizon},
		"of a caller a day behind":        {-24 * time.Hour, 24 * time.Hour},
		"of a caller a day ahead":         {24 * time.Hour, 24*time.Hour + horizon},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 10, 10)
			session := atmostonce.NewSession(w.time().Add(test.ahead))
			w.want(admitted, session, 7)
			w.pass(test.until - time.Minute)
			w.wantCount(1, 1)
			w.want(duplicate, session, 7)
			w.pass(time.Minute)
			w.wantCount(0, 0)
			w.want(forgotten, session, 7)
			w.want(forgotten, session, 8)
			if bound := time.UnixMilli(w.sessions.bound.Load()); !bound.Equal(session.Created()) {
				t.Errorf("the bound is %v, want the creation time %v", bound, session.Created())
			}
			w.want(admitted, atmostonce.NewSession(w.time()), 1)
			for _, jump := range []time.Duration{-test.ahead, -24 * time.Hour, -10 * 365 * 24 * time.Hour} {
				w.jump = jump
				w.want(forgotten, session, 7)
			}
		})
	}
}

func TestASessionInUseIsNeverForgottenOrRefusedForItsAge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time())
	for seq := range uint64(100) {
		w.want(admitted, session, seq+1)
		w.pass(23 * time.Hour)
		w.want(duplicate, session, seq+1)
	}
}

func TestADuplicateDoesNotKeepASession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time())
	w.want(admitted, session, 1)
	for range 72 {
		w.pass(30 * time.Minute)
		w.sessions.once(someone, session, 1)
	}
	w.wantCount(0, 0)
}

func TestAnOutdatedSessionNeverBegins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time().Add(-48 * time.Hour))
	w.want(outdated, session, 1)
	w.want(forgotten, session, 1) // the cause is no longer known
	w.jump = -24 * time.Hour      // by which it is young enough
	w.want(forgotten, session, 1)
	w.wantCount(0, 0)
	w.want(admitted, atmostonce.NewSession(w.time()), 1)
}

// TestNoClockHurtsACaller has callers whose clocks are wrong call a server whose
// clock jumps, each once an hour for two weeks, with a new bus every day.
func TestNoClockHurtsACaller(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	// turns is 0 and 1 by turns of so many days.
	turns := func(passed time.Duration, days int64) int64 { return int64(passed/day) / days % 2 }
	for title, off := range map[string]func(passed time.Duration) int64{ // days that the server's clock is ahead
		"the server's clock is right":                     func(time.Duration) int64 { return 0 },
		"the server's clock is a day ahead":               func(time.Duration) int64 { return 1 },
		"the server's clock is a day behind":              func(time.Duration) int64 { return -1 },
		"the server's clock jumps a day ahead":            func(passed time.Duration) int64 { return turns(passed, 7) },
		"the server's clock jumps a day back":             func(passed time.Duration) int64 { return -turns(passed, 7) },
		"the server's clock jumps a day ahead, and back":  func(passed time.Duration) int64 { return turns(passed, 3) },
		"the server's clock jumps a day back, and ahead":  func(passed time.Duration) int64 { return -turns(passed, 3) },
		"the server's clock jumps to and fro every day":   func(passed time.Duration) int64 { return turns(passed, 1) },
		"the server's clock jumps a day ahead, then back": func(passed time.Duration) int64 { return turns(passed, 5) - turns(passed+day, 5) },
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1000, 1000)
			type call struct {
				session atmostonce.Session
				seq     uint64
			}
			type bus struct {
				ahead time.Duration
				call  call
			}
			var buses []*bus
			var ran []call
			for hour := range 14 * 24 {
				w.jump = time.Duration(off(w.passed)) * day
				if hour%24 == 5 {
					for _, ahead := range []time.Duration{0, -time.Hour, 11 * time.Hour} {
						buses = append(buses, &bus{ahead: ahead, call: call{session: atmostonce.NewSession(w.time().Add(ahead))}})
					}
				}
				for _, b := range buses[max(0, len(buses)-9):] { // each lives for three days
					b.call.seq++
					if got := w.sessions.once(someone, b.call.session, b.call.seq); got != admitted {
						t.Fatalf("after %v, with the server's clock off by %v, a call of a caller that is ahead by %v: %v", w.passed, w.jump, b.ahead, got)
					}
					ran = append(ran, b.call)
				}
				for _, c := range ran {
					if w.sessions.once(other, c.session, c.seq) == admitted {
						t.Fatalf("after %v %v ran twice", w.passed, c)
					}
				}
				w.pass(time.Hour)
			}
		})
	}
}

func TestOneSessionCannotUseUpAnothersNumbers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time())
	for _, test := range []struct {
		title string
		p     principal
		want  result
	}{
		{"a proven principal", someone | proven, admitted},
		{"another proven principal", other | proven, admitted},
		{"an address", someone, admitted},
		{"another address, which proves nothing: a copy that came another way", other, duplicate},
		{"the proven principal again", someone | proven, duplicate},
	} {
		t.Run(test.title, func(t *testing.T) { //nolint:paralleltest // each step follows from the one before
			if got := w.sessions.once(test.p, session, 1); got != test.want {
				t.Errorf("%s: %v, want %v", test.title, got, test.want)
			}
		})
	}
	w.wantCount(3, 0)
}

func TestTheCapsHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 5)
	open := func(p principal, want result) {
		t.Helper()
		if got := w.sessions.once(p, atmostonce.NewSession(w.time()), 1); got != want {
			t.Errorf("a session more of %d: %v, want %v", p, got, want)
		}
	}
	kept := atmostonce.NewSession(w.time())
	w.want(admitted, kept, 1)
	open(someone, admitted)
	open(someone, admitted)
	open(someone, principalFull)
	open(other, admitted)
	open(other, admitted)
	open(other, serverFull)
	open(someone, principalFull)
	w.want(admitted, kept, 2) // a known session stays
	w.pass(horizon)
	w.wantCount(0, 0)
	open(someone, admitted)
}

func TestAPrincipalWithoutASessionIsNotRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 100)
	for p := range principal(50) {
		if got := w.sessions.once(p<<1, atmostonce.NewSession(w.time()), 1); got != admitted {
			t.Fatal(got)
		}
	}
	w.want(admitted, atmostonce.NewSession(w.time().Add(time.Hour)), 1) // which stays for an hour more
	w.pass(horizon)
	w.wantCount(1, 1)
	if len(w.sessions.quota.perPrincipal) != 1 || w.sessions.quota.perPrincipal[someone] != 1 {
		t.Errorf("the principals are %v, want one with a session", w.sessions.quota.perPrincipal)
	}
}

func TestACapIsExactUnderContention(t *testing.T) {
	t.Parallel()
	const each, all, workers, tries = 500, 1200, 8, 400
	s := newSessions(each, all, time.Now)
	var opened atomic.Int64
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			p := principal(worker%3+1) << 1
			for range tries {
				if s.once(p, atmostonce.NewSession(time.Now()), 1) == admitted {
					opened.Add(1)
				}
			}
		})
	}
	group.Wait()
	if got, _, _ := s.count(); got != all || opened.Load() != all {
		t.Errorf("%d sessions, %d opened, want %d", got, opened.Load(), all)
	}
	for p, count := range s.quota.perPrincipal {
		if count > each {
			t.Errorf("%d has %d sessions, more than %d", p, count, each)
		}
	}
}

// TestOneOfManyCopiesAtTheSameMomentIsAdmitted lets a few goroutines wait for
// each other before each call, so that its copies arrive within nanoseconds.
func TestOneOfManyCopiesAtTheSameMomentIsAdmitted(t *testing.T) { //nolint:paralleltest // needs a core for each
	const copies, rounds = 2, 3_000
	for title, ticks := range map[string]uint32{"while the session is in use": 0, "while it is collapsed again and again": collapseAfter} {
		t.Run(title, func(t *testing.T) {
			s := newSessions(rounds+1, rounds+1, time.Now)
			began := time.Now()
			session := atmostonce.NewSession(began)
			// Of each round one call of the session, and the first of another.
			counts := make([]atomic.Int32, 2*rounds)
			var arrived atomic.Int64
			meet := func(round int) {
				arrived.Add(1)
				for spin := 1; arrived.Load() < int64(copies*(round+1)); spin++ {
					if spin%1000 == 0 {
						runtime.Gosched()
					}
				}
			}
			var group sync.WaitGroup
			for copied := range copies {
				group.Go(func() {
					for round := range rounds {
						meet(2 * round)
						if s.once(someone, session, uint64(round+1)) == admitted {
							counts[round].Add(1)
						}
						meet(2*round + 1)
						if s.once(principal(copied+1)<<1, numbered(began, round), 1) == admitted {
							counts[rounds+round].Add(1)
						}
						if round%16 == 0 {
							s.sweep(ticks)
						}
					}
				})
			}
			group.Wait()
			for round := range counts {
				if count := counts[round].Load(); count > 1 || (count != 1 && (ticks == 0 || round >= rounds)) { // one of a collapsed session may be refused
					t.Fatalf("call %d was admitted %d times", round, count)
				}
			}
		})
	}
}

// TestForgettingRacesWithACopy lets sessions be forgotten while copies of their
// calls arrive.
func TestForgettingRacesWithACopy(t *testing.T) {
	t.Parallel()
	var jump atomic.Int64
	s := newSessions(10_000, 10_000, func() time.Time { return epoch.Add(time.Duration(jump.Load())) })
	for round := range 100 {
		ran := make([]atmostonce.Session, 50)
		for i := range ran {
			ran[i] = atmostonce.NewSession(s.now())
			if got := s.once(someone, ran[i], 1); got != admitted {
				t.Fatalf("round %d: %v", round, got)
			}
		}
		s.ticks.Add(forgetAfter)
		jump.Add(int64(horizon))
		var group sync.WaitGroup
		group.Go(func() { sweepAll(s, 1) })
		for range 2 {
			group.Go(func() {
				for range 20 {
					for _, session := range ran {
						if s.once(someone, session, 1) == admitted {
							t.Error("a copy ran while its session was forgotten")
						}
					}
				}
			})
		}
		// The clock goes back by a day while they do.
		group.Go(func() {
			jump.Add(-int64(24 * time.Hour))
			jump.Add(int64(24 * time.Hour))
		})
		group.Wait()
	}
}

// TestWhatWasAdmittedIsNeverAdmittedAgain throws calls, copies of all ages, time
// and jumps of the clock at few sessions, at random.
func TestWhatWasAdmittedIsNeverAdmittedAgain(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 3))
			w := newWorld(t, 50, 80)
			type call struct {
				session atmostonce.Session
				seq     uint64
			}
			ran := make(map[call]bool)
			var calls []call
			var live []atmostonce.Session
			var forgot int
			for range 30_000 {
				switch random.IntN(40) {
				case 0:
					w.pass(time.Duration(random.Int64N(int64(2 * time.Minute))))
				case 1:
					if random.IntN(10) == 0 {
						w.pass(time.Duration(random.Int64N(int64(20 * time.Hour))))
					}
				case 2:
					w.jump = time.Duration(random.Int64N(int64(48*time.Hour))) - 24*time.Hour
				case 3, 4:
					off := time.Duration(random.Int64N(int64(80*time.Hour))) - 60*time.Hour
					live = append(live, atmostonce.NewSession(w.time().Add(off)))
					live = live[max(0, len(live)-20):]
				default:
					var c call
					switch {
					case len(calls) > 0 && random.IntN(3) == 0:
						c = calls[random.IntN(len(calls))]
					case len(live) > 0:
						c = call{live[random.IntN(len(live))], 1 + random.Uint64N(20_000)>>random.IntN(12)}
					default:
						continue
					}
					got := w.sessions.once(principal(random.IntN(4))<<1, c.session, c.seq)
					if got == admitted {
						if ran[c] {
							t.Fatalf("%v ran twice", c)
						}
						ran[c] = true
						calls = append(calls, c)
					}
					if got == outdated && ran[c] {
						t.Fatalf("%v ran, and the refusal of its copy said that it never did", c)
					}
					if got == forgotten && ran[c] {
						forgot++
					}
				}
			}
			if len(calls) < 1000 || forgot == 0 {
				t.Errorf("%d calls ran, %d copies were of forgotten sessions: the test does not reach what it is for", len(calls), forgot)
			}
		})
	}
}

// TestFarMoreSessionsOfOnePrincipalThanItMayHave is not parallel, for what it takes of the
// heap.
func TestFarMoreSessionsOfOnePrincipalThanItMayHave(t *testing.T) { //nolint:paralleltest // measures the heap
	w := newWorld(t, 10_000, 1_000_000)
	before := heapBytes()
	others := atmostonce.NewSession(w.time())
	if got := w.sessions.once(other, others, 1); got != admitted {
		t.Fatal(got)
	}
	var full int
	for i := range 100_000 {
		switch got := w.sessions.once(someone, numbered(w.time(), i), 1); got {
		case admitted:
		case principalFull:
			full++
		default:
			t.Fatal(got)
		}
	}
	if full != 90_000 {
		t.Errorf("%d were refused, want all but 10,000", full)
	}
	w.wantCount(10_001, 0)
	if got := w.sessions.once(other, others, 2); got != admitted {
		t.Errorf("another principal's session: %v", got)
	}
	if got := w.sessions.once(other, atmostonce.NewSession(w.time()), 1); got != admitted {
		t.Errorf("another principal's new session: %v", got)
	}
	if took := heapBytes() - before; took > 16<<20 {
		t.Errorf("they take %d bytes", took)
	}
	w.pass(time.Minute)
	if took := heapBytes() - before; took > 10_002*128 {
		t.Errorf("they take %d bytes when idle", took)
	}
	runtime.KeepAlive(w)
}

// numbered returns one of many sessions, in less time than NewSession.
func numbered(created time.Time, number int) atmostonce.Session {
	var session atmostonce.Session
	binary.BigEndian.PutUint64(session[:], uint64(created.UnixMilli())<<16)
	binary.BigEndian.PutUint64(session[8:], uint64(number))
	return session
}

// heapBytes is how much the heap holds that is used.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestBusesThatComeAndGoForWeeks has 75,000 buses call within four weeks, copies of
// whose calls arrive up to its end.
func TestBusesThatComeAndGoForWeeks(t *testing.T) {
	t.Parallel()
	const (
		buses  = 75_000
		hours  = 28 * 24
		hourly = buses/hours + 1
		// Two days' worth: the horizon, and the sweep.
		most = hourly * 48
	)
	type call struct {
		session atmostonce.Session
		seq     uint64
	}
	w := newWorld(t, 10_000, 1_000_000)
	random := rand.New(rand.NewPCG(365, 24))
	var kept []call // of one bus in a hundred
	idle := call{session: atmostonce.NewSession(w.time()), seq: 1}
	w.want(admitted, idle.session, idle.seq)
	var opened int
	for hour := range hours {
		for range min(hourly, buses-opened) {
			opened++
			c := call{numbered(w.time(), opened), 1}
			w.want(admitted, c.session, c.seq)
			if opened%100 == 0 {
				kept = append(kept, c)
			}
		}
		for range min(20, len(kept)) {
			if copied := kept[random.IntN(len(kept))]; w.sessions.once(other, copied.session, copied.seq) == admitted {
				t.Fatalf("hour %d: a copy of %v ran", hour, copied)
			}
		}
		if hour%4 == 3 { // there are the most now, before they are swept
			if got, _, _ := w.sessions.count(); got > most {
				t.Fatalf("hour %d: %d sessions", hour, got)
			}
			if took := w.footprint(); took > most*64+8*hourly*windowWords*wordBits/8 {
				t.Fatalf("hour %d: %d bytes", hour, took)
			}
			w.pass(4 * time.Hour)
		}
		if hour == 48 {
			w.want(forgotten, idle.session, 2)
			idle.session, idle.seq = atmostonce.NewSession(w.time()), 1 // as a bus does after that refusal
			w.want(admitted, idle.session, idle.seq)
			w.want(duplicate, idle.session, idle.seq)
		}
	}
	if opened != buses {
		t.Errorf("%d buses", opened)
	}
	for _, c := range kept {
		if w.sessions.once(someone, c.session, c.seq) == admitted {
			t.Fatalf("at the end a copy of %v ran", c)
		}
	}
	w.pass(2 * horizon)
	w.wantCount(0, 0)
	if took := w.footprint(); took != 0 {
		t.Fatalf("%d bytes are taken when all is forgotten", took)
	}
}

// footprint returns how many bytes the sessions and their windows take at least.
func (w *world) footprint() int {
	var bytes int
	for i := range w.sessions.shards {
		shard := &w.sessions.shards[i]
		bytes += shard.peak * int(unsafe.Sizeof(sessionKey{})+unsafe.Sizeof(&session{})+unsafe.Sizeof(session{}))
		for _, known := range shard.sessions {
			if known.window != nil {
				bytes += int(unsafe.Sizeof(window{}))
			}
			if known.recent != nil {
				bytes += int(unsafe.Sizeof(recent{}))
			}
		}
	}
	return bytes
}
