package client

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// openCall is a call on its way: its number has not reached the server.
type openCall struct {
	counter *counter
	seq     uint64
}

// serverWindows are what a server has admitted, by session.
type serverWindows map[atmostonce.Session]*struct {
	admitted map[uint64]bool
	highest  uint64
}

// admit reports whether a server admits a call.
func (a serverWindows) admit(call openCall) bool {
	of := a[call.counter.session]
	if of == nil {
		of = &struct {
			admitted map[uint64]bool
			highest  uint64
		}{admitted: make(map[uint64]bool)}
		a[call.counter.session] = of
	}
	if of.admitted[call.seq] || of.highest >= call.seq+atmostonce.WindowSize {
		return false
	}
	of.admitted[call.seq] = true
	of.highest = max(of.highest, call.seq)
	return true
}

func TestNoCallIsSoLateThatItLooksLikeACopy(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*rand.Rand, []openCall) int{
		"at random":                    func(r *rand.Rand, open []openCall) int { return r.IntN(len(open)) },
		"the newest first":             func(_ *rand.Rand, open []openCall) int { return len(open) - 1 },
		"the oldest first":             func(*rand.Rand, []openCall) int { return 0 },
		"the first one last of them":   func(_ *rand.Rand, open []openCall) int { return min(1, len(open)-1) },
		"one of the newest, at random": func(r *rand.Rand, open []openCall) int { return len(open) - 1 - r.IntN(min(100, len(open))) },
		"one of the oldest, at random": func(r *rand.Rand, open []openCall) int { return r.IntN(min(100, len(open))) },
		"mostly new ones, seldom others": func(r *rand.Rand, open []openCall) int {
			return len(open) - 1 - int(float64(len(open)-1)*r.Float64()*r.Float64()*r.Float64())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 2))
			l := newLane(discovery.NewIncarnation(), atmostonce.NewSession(epoch), func() time.Time { return epoch })
			server := make(serverWindows)
			var open []openCall
			late := 0
			deliver := func() {
				at := next(r, open)
				call := open[at]
				if at < len(open)/2 { // the shorter part is moved
					copy(open[1:at+1], open[:at])
					open = open[1:]
				} else {
					open = slices.Delete(open, at, at+1)
				}
				if !server.admit(call) {
					late++
				}
				call.counter.end(call.seq)
			}
			const most = 5 * atmostonce.WindowSize / 2
			for range 5 * atmostonce.WindowSize {
				drawn, seq := l.draw()
				open = append(open, openCall{drawn, seq})
				// As under load, there are more calls than are served, then fewer.
				for len(open) > 0 && (len(open) > most || r.IntN(3) == 0) {
					deliver()
				}
			}
			for len(open) > 0 {
				deliver()
			}
			if late > 0 {
				t.Errorf("%d calls were refused as copies", late)
			}
			if sessions := len(server); sessions > 20 {
				t.Errorf("%d sessions were used for %d calls under way at most", sessions, most)
			}
		})
	}
}

func TestOneLateCallCostsOneSession(t *testing.T) {
	t.Parallel()
	l := newLane(discovery.NewIncarnation(), atmostonce.NewSession(epoch), func() time.Time { return epoch })
	first, late := l.draw()
	sessions := map[atmostonce.Session]bool{first.session: true}
	for range 20 * atmostonce.WindowSize {
		drawn, seq := l.draw()
		sessions[drawn.session] = true
		drawn.end(seq)
	}
	if len(sessions) != 2 {
		t.Errorf("while one call is late %d sessions are used, want 2", len(sessions))
	}
	first.end(late)
	if left := first.left(); left != atmostonce.WindowSize {
		t.Errorf("when it has ended its session has %d numbers, want all", left)
	}
	// One that is forgotten by the server is dropped, and then the first one is used.
	l.drop(l.current.Load().session)
	if drawn, _ := l.draw(); drawn != first || len(l.counters) != 1 {
		t.Errorf("after its session expired the lane has %d counters", len(l.counters))
	}
	l.drop(first.session)
	if drawn, _ := l.draw(); drawn != first {
		t.Error("the session of all lanes was dropped by one")
	}
}

func TestNumbersAreDrawnAndEndedFromAllGoroutines(t *testing.T) {
	t.Parallel()
	l := newLane(discovery.NewIncarnation(), atmostonce.NewSession(epoch), func() time.Time { return epoch })
	const goroutines, each = 8, 5000
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		seen = make(map[openCall]bool)
	)
	for range goroutines {
		all.Go(func() {
			for range each {
				drawn, seq := l.draw()
				mu.Lock()
				if seen[openCall{drawn, seq}] {
					t.Errorf("number %d was drawn twice", seq)
				}
				seen[openCall{drawn, seq}] = true
				mu.Unlock()
				drawn.end(seq)
			}
		})
	}
	all.Wait()
	drawn := uint64(0)
	for _, c := range l.counters { // more than one when a goroutine did not run for long
		drawn += c.last.Load()
		if c.raise() != c.last.Load()+1 {
			t.Errorf("the last number is %d, the lowest that has not ended %d", c.last.Load(), c.raise())
		}
	}
	if drawn != goroutines*each {
		t.Errorf("%d numbers were drawn, want %d", drawn, goroutines*each)
	}
}

func TestACallHasEndedForItsLaneOnce(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Attempt){
		"a reply":          func(r *Attempt) { r.done(balancer.DoneInfo{BytesSent: true}) },
		"no stream":        func(r *Attempt) { r.done(balancer.DoneInfo{}) },
		"messages, an end": func(r *Attempt) { r.received(); r.received(); r.done(balancer.DoneInfo{BytesSent: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			caller := NewCaller()
			attempt := caller.NewChannel().NewAttempt(t.Context(), "/a.B/C")
			if _, err := attempt.bind(nil, discovery.NewIncarnation(), nil, nil); err != nil {
				t.Fatal(err)
			}
			counter := attempt.counter
			if counter.raise() != 1 {
				t.Error("a call that is under way has ended for its lane")
			}
			end(attempt)
			if got := counter.raise(); got != 2 {
				t.Errorf("after %s the lowest number that has not ended is %d, want 2", name, got)
			}
		})
	}
}

// BenchmarkDraw is a number drawn and ended.
func BenchmarkDraw(b *testing.B) {
	l := newLane(discovery.NewIncarnation(), atmostonce.NewSession(epoch), time.Now)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			drawn, seq := l.draw()
			drawn.end(seq)
		}
	})
}
