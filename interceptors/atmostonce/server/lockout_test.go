package server

import (
	"testing"
	"time"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// TestAHostWithAProcessEveryTenSecondsIsNeverLockedOut has a host start a process
// every 10 s, each with one call, for 10 days, and another one call twice a day.
func TestAHostWithAProcessEveryTenSecondsIsNeverLockedOut(t *testing.T) {
	t.Parallel()
	const every, days = 10 * time.Second, 10
	// A server sweeps every tick. Here each session is kept some minutes longer,
	// which makes it harder.
	const sweepEvery = time.Minute
	w := newWorld(t, 10_000, 1_000_000)
	type call struct {
		p       principal
		session atmostonce.Session
		seq     uint64
	}
	var ran []call
	run := func(c call) {
		t.Helper()
		if got := w.sessions.once(c.p, c.session, c.seq); got != admitted {
			t.Fatalf("after %v call %d of %d: %v", w.passed, c.seq, c.p, got)
		}
		ran = append(ran, c)
	}
	kept := call{p: other, session: atmostonce.NewSession(w.time())}
	most := 0
	for i := range int(days * 24 * time.Hour / every) {
		if w.passed%(12*time.Hour) == 0 {
			kept.seq++
			run(kept)
		}
		run(call{p: someone, session: numbered(w.time(), i), seq: 1})
		w.passed += every
		if w.passed%sweepEvery == 0 {
			w.sessions.sweep(uint32(sweepEvery / tick))
		}
		if i%1000 == 0 {
			for j := i % 7; j < len(ran); j += 997 {
				if w.sessions.once(other, ran[j].session, ran[j].seq) == admitted {
					t.Fatalf("after %v a copy of a call ran", w.passed)
				}
			}
			all, _, _ := w.sessions.count()
			most = max(most, all)
		}
	}
	if most < 9_000 {
		t.Errorf("the host had %d sessions at most: the test does not reach what it is for", most)
	}
	for _, c := range ran {
		if w.sessions.once(c.p, c.session, c.seq) == admitted {
			t.Fatal("at the end a copy of a call ran")
		}
	}
}

func TestASessionIsKeptForADayThoughACapIsReached(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct{ each, all int }{
		"of the principal": {each: 1, all: 10},
		"of the server":    {each: 10, all: 1},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.each, test.all)
			first := atmostonce.NewSession(w.time())
			w.want(admitted, first, 1)
			w.pass(crowdedHorizon - 23*time.Hour)
			w.want(admitted, first, 2)
			w.pass(23 * time.Hour)
			w.wantCount(1, 1) // old enough, and not idle for a day
			w.pass(time.Hour)
			w.wantCount(0, 0)
			w.want(forgotten, first, 2)
			w.want(admitted, atmostonce.NewSession(w.time()), 1)
		})
	}
}

func TestASessionOfTheFutureIsRefusedUntilClocksAreRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 10)
	for _, by := range []time.Duration{horizon + time.Second, 7 * 24 * time.Hour, 80 * 365 * 24 * time.Hour} {
		for range 3 {
			w.want(ahead, atmostonce.NewSession(w.time().Add(by)), 1)
		}
	}
	w.wantCount(0, 0) // so they fill no cap

	// A server that is put back by a year goes on with the sessions that it
	// knows, begins none, and begins them again once its clock is right.
	known, fresh := atmostonce.NewSession(w.time()), atmostonce.NewSession(w.time())
	w.want(admitted, known, 1)
	w.jump = -365 * 24 * time.Hour
	w.want(admitted, known, 2)
	w.want(ahead, fresh, 1)
	w.jump = 0
	w.want(admitted, fresh, 1)
	w.want(duplicate, fresh, 1)
	w.pass(horizon)
	w.wantCount(0, 0)
}

func TestANumberBelowTheWindowIsLateAndNotADuplicate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 10)
	session := atmostonce.NewSession(w.time())
	w.want(admitted, session, atmostonce.WindowSize+5)
	w.want(duplicate, session, atmostonce.WindowSize+5)
	w.want(admitted, session, 6)
	w.want(duplicate, session, 6)
	w.want(late, session, 5)
	w.pass(time.Hour)
	w.want(late, session, 5)
	w.want(duplicate, session, 7) // it is not known any more whether it came
}
