package server

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Two principals whose names were proven.
const (
	provenOne   = principal(101)
	provenOther = principal(103)
)

// start admits a call, or fails.
func (w *world) start(p principal, session atmostonce.Session, seq uint64) *marked {
	w.tb.Helper()
	call := &marked{method: "m"}
	if got := w.sessions.admit(p, session, seq, call); got != admitted {
		w.tb.Fatalf("admit(%v, %d) = %v", session, seq, got)
	}
	return call
}

// ask settles a call, and marks its number if it is not marked.
func ask(s *sessions, p principal, id atmostonce.Session, seq uint64) settled {
	answer, _ := s.settle(question{principal: p, call: atmostonce.Identity{Session: id, Seq: seq}, method: "m"}, true)
	return answer
}

// finish ends a call, and keeps data if there is room.
func (w *world) finish(call *marked, became fate, lost bool, data []byte) {
	w.tb.Helper()
	end := &kept{lost: lost, data: data}
	if data == nil && !lost || !w.sessions.reserve(end) {
		end = nil
	}
	w.sessions.end(call, became, end)
}

// wantFate fails unless a call is settled with a fate and data.
func (w *world) wantFate(want fate, p principal, session atmostonce.Session, seq uint64, data string) {
	w.tb.Helper()
	got := ask(w.sessions, p, session, seq)
	if got.fate != want || string(got.data) != data {
		w.tb.Fatalf("settle(%v, %d) = %v %.20q, want %v %.20q", session, seq, got.fate, got.data, want, data)
	}
}

// wantKept fails unless the server keeps so many bytes, as many as its lists have.
func (w *world) wantKept(want int) {
	w.tb.Helper()
	listed := 0
	for i := range w.sessions.shards {
		for _, lost := range []bool{false, true} {
			for end := w.sessions.shards[i].list(lost).first; end != nil; end = end.after {
				listed += end.bytes()
				if end.session.recent.kept[end.seq] != end {
					w.tb.Fatal("a session does not have an end that its shard has")
				}
			}
		}
	}
	if got := w.sessions.kept.Load(); got != int64(listed) || listed != want {
		w.tb.Fatalf("%d bytes are counted, %d listed, want %d", got, listed, want)
	}
}

// TestARecycledSlotIsOfNoOtherNumber has the ring go round in steps of all sizes.
func TestARecycledSlotIsOfNoOtherNumber(t *testing.T) {
	t.Parallel()
	for _, step := range []uint64{1, 2, 31, 32, 33, 63, 64, 500, 1023, 1024, 1025, 1055, 1056, 1057, 1087, 1088, 1089, 5000} {
		t.Run(strconv.FormatUint(step, 10), func(t *testing.T) {
			t.Parallel()
			var r recent
			set := make(map[uint64]fate)
			highest := uint64(0)
			for i := range max(200, 5000/step) {
				to := highest + step
				r.advance(highest, to)
				highest = to
				set[highest] = fate(i%3 + 1)
				r.set(highest, highest, set[highest])
				for seq := highest - min(highest, 3000); i%19 == 0 && seq <= highest+100; seq++ {
					want := set[seq]
					if seq > highest || highest-seq >= recentSize {
						want = fateUnknown
					}
					if got := r.fate(highest, seq); got != want {
						t.Fatalf("with the highest %d, the fate of %d is %v, want %v", highest, seq, got, want)
					}
				}
			}
			before := r
			r.set(highest, highest-recentSize, fateOK)
			r.set(highest, highest+1, fateOK)
			if r.fates != before.fates {
				t.Error("a fate was set outside of the ring")
			}
		})
	}
}

// TestAnotherScopeOfASessionIsLeftAlone has two principals use one session.
func TestAnotherScopeOfASessionIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time())
	w.finish(w.start(provenOne, session, 1), fateOK, false, []byte("one"))
	running := w.start(provenOne, session, 2)
	for _, p := range []principal{provenOther, someone} {
		for seq := range uint64(4) {
			w.wantFate(fateUnknown, p, session, seq+1, "")
		}
	}
	w.wantCount(1, 0)
	w.wantFate(fateOK, provenOne, session, 1, "one")
	w.finish(running, fateOK, false, []byte("two"))
	w.wantFate(fateRefused, provenOne, session, 5, "")
	// A copy of the fifth call may come with another principal.
	call := &marked{}
	for seq := range uint64(5) {
		if got := w.sessions.admit(provenOther, session, seq+1, call); got != duplicate {
			t.Errorf("call %d of another principal: %v", seq+1, got)
		}
	}
	w.wantCount(1, 0)
	w.finish(w.start(provenOther, session, 6), fateOK, false, []byte("six"))
	// The session has two scopes now, so an unmarked number may be of either.
	for seq := range uint64(3) {
		w.wantFate(fateUnknown, provenOne, session, seq+6, "")
		w.wantFate(fateUnknown, provenOther, session, seq+7, "")
	}
	w.wantFate(fateOK, provenOther, session, 6, "six")
	w.wantFate(fateRefused, provenOne, session, 5, "")
	w.pass(2 * horizon)
	w.wantCount(0, 0)
	for i := range w.sessions.shards {
		if left := len(w.sessions.shards[i].settled); left > 0 {
			t.Error("the server remembers numbers of a session that it has forgotten")
		}
	}
	w.wantFate(fateUnknown, provenOne, session, 7, "")
}

// TestASessionThatMayNotBeginIsUnknown settles calls of sessions that would be refused.
func TestASessionThatMayNotBeginIsUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1)
	w.wantFate(fateUnknown, someone, atmostonce.NewSession(w.time().Add(-48*time.Hour)), 1, "")
	w.wantFate(fateUnknown, someone, atmostonce.NewSession(w.time().Add(48*time.Hour)), 1, "")
	w.wantFate(fateRefused, someone, atmostonce.NewSession(w.time()), 1, "")
	w.wantFate(fateUnknown, someone, atmostonce.NewSession(w.time()), 1, "")
	w.wantCount(1, 0)
}

// TestOfARunningCallAndALostReplyTheSessionIsKept lets a day pass.
func TestOfARunningCallAndALostReplyTheSessionIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time())
	running := w.start(someone, session, 1)
	w.pass(72 * time.Hour)
	w.wantCount(1, 1)
	w.wantFate(fateRunning, someone, session, 1, "")
	answer := ask(w.sessions, someone, session, 1)
	select {
	case <-answer.ended:
		t.Error("the call has ended")
	default:
	}
	w.finish(running, fateOK, true, []byte("late"))
	<-answer.ended
	w.wantFate(fateOK, someone, session, 1, "late")
	w.pass(9 * time.Minute)
	w.wantFate(fateOK, someone, session, 1, "late")
	w.pass(time.Minute)
	w.wantFate(fateUnknown, someone, session, 1, "")
	w.wantKept(0)
	w.pass(24 * time.Hour)
	w.wantCount(0, 0)
}

// TestTheOldestEndsGoFirst fills the limits of a session and of the server.
func TestTheOldestEndsGoFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 100, 100)
	data := bytes.Repeat([]byte("x"), 1000-keptOverhead)
	w.sessions.keeping = keeping{all: 16_000, session: 4000, lost: 600}
	sessions := make([]atmostonce.Session, 10)
	for i := range sessions {
		sessions[i] = atmostonce.NewSession(w.time())
	}
	end := func(session atmostonce.Session, seq uint64, lost bool) {
		t.Helper()
		w.finish(w.start(someone, session, seq), fateOK, lost, data)
	}
	keptOf := func(session atmostonce.Session, upTo uint64) (found []uint64) {
		for seq := range upTo {
			got := ask(w.sessions, someone, session, seq+1)
			if got.fate != fateOK {
				t.Errorf("call %d is settled as %v", seq+1, got.fate)
			}
			if got.data != nil {
				found = append(found, seq+1)
			}
		}
		return found
	}
	for seq := range uint64(6) {
		end(sessions[0], seq+1, false)
	}
	if got := fmt.Sprint(keptOf(sessions[0], 6)); got != "[3 4 5 6]" {
		t.Errorf("the session keeps %s", got)
	}
	w.wantKept(4000)
	for seq := range uint64(6) { // the limit of a session is not for these
		end(sessions[1], seq+1, true)
	}
	w.pass(time.Second)
	for i := range 6 {
		end(sessions[2+i], 1, false)
	}
	w.wantKept(16_000)
	end(sessions[8], 1, false) // makes room for a thousand more
	if got := w.sessions.kept.Load(); got > 16_000 {
		t.Errorf("%d bytes are kept", got)
	}
	if got := len(keptOf(sessions[0], 6)); got != 2 {
		t.Errorf("the session keeps %d of the oldest", got)
	}
	for i := range 7 {
		w.wantFate(fateOK, someone, sessions[2+i], 1, string(data))
	}
	if got := len(keptOf(sessions[1], 6)); got != 6 {
		t.Errorf("%d replies are kept whose caller had gone, want all", got)
	}
	// One that takes nearly all takes the place of all.
	w.finish(w.start(someone, sessions[9], 1), fateFailed, true, bytes.Repeat([]byte("y"), 15_900-keptOverhead))
	w.wantKept(15_900)
	// One that is not lost takes the place of no lost one.
	w.finish(w.start(someone, sessions[9], 2), fateFailed, false, data)
	w.wantKept(15_900)
	w.wantFate(fateFailed, someone, sessions[9], 2, "")
	w.pass(10 * time.Minute)
	w.wantKept(0)
}

// TestTheNewestLargeEndOfASessionIsKept has ends that are larger than a session's limit.
func TestTheNewestLargeEndOfASessionIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time())
	large := bytes.Repeat([]byte("x"), 1<<20)
	w.finish(w.start(someone, session, 1), fateOK, false, []byte("small"))
	w.finish(w.start(someone, session, 2), fateOK, false, large)
	w.finish(w.start(someone, session, 3), fateOK, false, []byte("small"))
	w.wantFate(fateOK, someone, session, 2, string(large))
	w.finish(w.start(someone, session, 4), fateOK, false, large)
	w.wantFate(fateOK, someone, session, 2, "")
	w.wantFate(fateOK, someone, session, 4, string(large))
	for _, seq := range []uint64{1, 3} {
		w.wantFate(fateOK, someone, session, seq, "small")
	}
	w.wantKept(1<<20 + 10 + 3*keptOverhead)
	w.pass(10 * time.Second)
	w.wantKept(0)
	w.finish(w.start(someone, session, 5), fateOK, false, large)
	w.wantFate(fateOK, someone, session, 5, string(large))
}

func TestAReplyIsKeptJustInCaseForTenSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time())
	w.finish(w.start(someone, session, 1), fateOK, false, []byte("x"))
	w.sessions.ticks.Add(9) // without a sweep
	w.wantFate(fateOK, someone, session, 1, "x")
	w.sessions.ticks.Add(1)
	w.wantFate(fateOK, someone, session, 1, "")
	w.pass(0)
	w.wantKept(0)
}

// TestAGibibyteOfReplies has 64 sessions end calls with replies of all sizes within a
// minute, of a GiB together, and measures the heap.
func TestAGibibyteOfReplies(t *testing.T) { //nolint:paralleltest // measures the heap
	const sessions, total, most = 64, 1 << 30, DefaultMaxKept
	before := heapBytes()
	w := newWorld(t, 100, 100)
	ids := make([]atmostonce.Session, sessions)
	for i := range ids {
		ids[i] = atmostonce.NewSession(w.time())
	}
	random := rand.New(rand.NewPCG(1, 2))
	var sent, second int
	for seq := uint64(1); sent < total; seq++ {
		for _, id := range ids {
			size := 1 << random.IntN(21)
			sent += size
			w.finish(w.start(someone, id, seq), fateOK, random.IntN(2) == 0, make([]byte, size))
			if kept := w.sessions.kept.Load(); kept > most {
				t.Fatalf("%d bytes are kept", kept)
			}
			if sent*60/total > second {
				second++
				w.pass(time.Second)
			}
		}
	}
	kept := w.sessions.kept.Load()
	if kept < most/2 {
		t.Errorf("%d bytes are kept: the test does not reach what it is for", kept)
	}
	if took := heapBytes() - before; took > kept*11/10+1<<20 {
		t.Errorf("%d bytes are kept, and the heap has grown by %d", kept, took)
	}
	w.pass(10 * time.Minute)
	w.wantKept(0)
	if took := heapBytes() - before; took > 1<<20 {
		t.Errorf("nothing is kept, and the heap has grown by %d", took)
	}
	runtime.KeepAlive(w)
}

// TestSmallEndsTakeWhatIsCounted fills the limit with the smallest of replies.
func TestSmallEndsTakeWhatIsCounted(t *testing.T) { //nolint:paralleltest // measures the heap
	for _, lost := range []bool{false, true} {
		w := newWorld(t, 10_000, 10_000)
		before := heapBytes()
		var ids []atmostonce.Session
		for i := range 300 {
			ids = append(ids, numbered(w.time(), i))
		}
		for i := range 90_000 {
			w.finish(w.start(someone, ids[i%len(ids)], uint64(i/len(ids)+1)), fateOK, lost, make([]byte, 1))
		}
		kept := w.sessions.kept.Load()
		if took := heapBytes() - before - int64(len(ids)*1600); took > kept {
			t.Errorf("%d bytes are counted, and the heap has grown by %d", kept, took)
		}
		runtime.KeepAlive(w)
	}
}

// TestAnActiveSessionIsSmall measures what a session takes.
func TestAnActiveSessionIsSmall(t *testing.T) { //nolint:paralleltest // measures the heap
	const count, most = 10_000, 1600
	w := newWorld(t, count, count)
	before := heapBytes()
	for i := range count {
		w.want(admitted, numbered(w.time(), i), 1)
	}
	if each := (heapBytes() - before) / count; each > most {
		t.Errorf("an active session takes %d bytes, want %d at most", each, most)
	}
	w.pass(time.Minute)
	if each := (heapBytes() - before) / count; each > 128 {
		t.Errorf("an idle session takes %d bytes", each)
	}
	runtime.KeepAlive(w)
}

// TestASettleIsNeverFalse throws calls, their ends, settles, time and other principals at
// few sessions, at random, and compares each answer with what happened.
func TestASettleIsNeverFalse(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			m := &model{
				world: newWorld(t, 50, 80), random: rand.New(rand.NewPCG(seed, 11)),
				calls: make(map[modelKey]*modelCall), fenced: make(map[modelCopy]bool), asked: make(map[fate]int),
			}
			m.roomy = seed%2 == 0
			if !m.roomy {
				m.sessions.keeping = keeping{all: 12_000, session: 2000, lost: 600}
			}
			for range 40_000 {
				m.step()
			}
			for _, f := range []fate{fateUnknown, fateRefused, fateOK, fateFailed, fateRunning} {
				if m.asked[f] < 20 {
					t.Errorf("%d settles were answered with %v: the test does not reach what it is for", m.asked[f], f)
				}
			}
			if m.withData < 20 || m.marks < 20 {
				t.Errorf("%d answers had data, %d settles marked a number", m.withData, m.marks)
			}
		})
	}
}

// modelCopy is a call that may arrive with any principal, modelKey one that did.
type (
	modelCopy struct {
		session atmostonce.Session
		seq     uint64
	}
	modelKey struct {
		modelCopy

		scope principal
	}
)

// modelCall is what happened to a call.
type modelCall struct {
	running *marked // nil once it has ended
	fate    fate
	data    []byte
	lost    bool
	ended   time.Duration
	key     modelKey
}

// model remembers everything.
type model struct {
	*world

	random *rand.Rand
	roomy  bool // nothing is dropped because there is too much
	live   []atmostonce.Session
	calls  map[modelKey]*modelCall
	all    []*modelCall
	// fenced has the calls for which a settle marked a number.
	fenced          map[modelCopy]bool
	asked           map[fate]int
	withData, marks int
}

func (m *model) step() {
	switch m.random.IntN(60) {
	case 0:
		m.pass(time.Duration(m.random.IntN(20)) * time.Second)
	case 1:
		if m.random.IntN(20) == 0 {
			m.pass(time.Duration(m.random.IntN(120)) * time.Second)
		}
	case 2:
		if m.random.IntN(400) == 0 {
			m.pass(time.Duration(m.random.IntN(60)) * time.Hour)
		}
	case 3:
		if m.random.IntN(30) == 0 || len(m.live) == 0 {
			m.live = append(m.live, atmostonce.NewSession(m.time()))
			m.live = m.live[max(0, len(m.live)-6):]
		}
	case 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24:
		m.end()
	case 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38:
		m.settle()
	default:
		m.admit()
	}
}

// pick returns a call near the highest of its session, or anywhere, or one that arrived.
func (m *model) pick() (principal, modelCopy, bool) {
	p := someone
	if m.random.IntN(4) == 0 {
		p = provenOne
	}
	if len(m.live) == 0 {
		return p, modelCopy{}, false
	}
	if len(m.all) > 0 && m.random.IntN(3) == 0 {
		recently := m.all[max(0, len(m.all)-1-m.random.IntN(1500)):]
		key := recently[0].key
		if m.random.IntN(8) > 0 {
			p = key.scope
		}
		return p, key.modelCopy, true
	}
	session := m.live[m.random.IntN(len(m.live))]
	highest := uint64(0)
	if known := m.sessions.shardOf(session).sessions[sessionKey{session, p.scope()}]; known != nil {
		highest = known.highest
	}
	seq := highest + 1
	switch m.random.IntN(8) {
	case 0:
		seq += m.random.Uint64N(4)
	case 1:
		seq -= m.random.Uint64N(min(seq, 40))
	case 2:
		seq -= m.random.Uint64N(min(seq, 3000))
	case 3:
		if m.random.IntN(40) == 0 {
			seq += m.random.Uint64N(3000)
		}
	}
	return p, modelCopy{session, seq}, true
}

func (m *model) admit() {
	p, of, ok := m.pick()
	if !ok {
		return
	}
	key := modelKey{of, p.scope()}
	call := &marked{method: "m"}
	if m.sessions.admit(p, of.session, of.seq, call) != admitted {
		return
	}
	if m.calls[key] != nil {
		m.tb.Fatalf("%v ran twice", key)
	}
	if m.fenced[of] {
		m.tb.Fatalf("%v ran after it was settled as refused", key)
	}
	m.calls[key] = &modelCall{running: call, key: key}
	m.all = append(m.all, m.calls[key])
}

func (m *model) end() {
	if len(m.all) == 0 {
		return
	}
	call := m.all[max(0, len(m.all)-1-m.random.IntN(60))]
	if call.running == nil {
		return
	}
	call.fate = []fate{fateUnknown, fateRefused, fateOK, fateOK, fateOK, fateFailed}[m.random.IntN(6)]
	call.lost = m.random.IntN(5) == 0 || call.running.isAwaited()
	if call.fate == fateOK || call.fate == fateFailed {
		call.data = fmt.Appendf(nil, "%v %v %d", call.key, call.fate, m.random.Uint64())
	}
	end := &kept{lost: call.lost, data: call.data}
	if call.fate == fateUnknown || call.data == nil && !call.lost || !m.sessions.reserve(end) {
		end = nil
	}
	m.sessions.end(call.running, call.fate, end)
	call.running, call.ended = nil, m.passed
}

func (m *model) settle() {
	p, of, ok := m.pick()
	if !ok {
		return
	}
	key := modelKey{of, p.scope()}
	call := m.calls[key]
	marked := m.marked()
	got := ask(m.sessions, p, of.session, of.seq)
	m.asked[got.fate]++
	if m.marked() != marked {
		m.marks++
		if got.fate != fateRefused {
			m.tb.Fatalf("%v was marked and settled as %v", key, got.fate)
		}
		for _, scope := range []principal{0, provenOne} {
			if m.calls[modelKey{of, scope}] != nil {
				m.tb.Fatalf("%v was settled as refused, and was admitted before", key)
			}
		}
		m.fenced[of] = true
		return
	}
	switch {
	case call == nil:
		if got.fate != fateUnknown && (got.fate != fateRefused || !m.fenced[of]) {
			m.tb.Fatalf("%v never arrived, and was settled as %v", key, got.fate)
		}
	case call.running != nil:
		if got.fate != fateRunning {
			m.tb.Fatalf("%v runs, and was settled as %v", key, got.fate)
		}
	default:
		m.check(call, got)
	}
}

// check compares the answer for a call that has ended.
func (m *model) check(call *modelCall, got settled) {
	if got.fate != fateUnknown && got.fate != call.fate {
		m.tb.Fatalf("%v ended as %v, and was settled as %v", call.key, call.fate, got.fate)
	}
	if got.data != nil {
		m.withData++
		if !bytes.Equal(got.data, call.data) {
			m.tb.Fatalf("%v ended with %q, and was settled with %q", call.key, call.data, got.data)
		}
	}
	age := m.passed - call.ended
	known := m.sessions.shardOf(call.key.session).sessions[sessionKey{call.key.session, call.key.scope}]
	switch {
	case call.fate == fateUnknown:
	case known != nil && known.window != nil && isRecent(known.highest, call.key.seq) && age < time.Minute && got.fate == fateUnknown:
		m.tb.Fatalf("%v ended %v ago, and its fate is not known", call.key, age)
	case m.roomy && (age < 10*time.Second || call.lost && age < DefaultKeepLost) && !bytes.Equal(got.data, call.data):
		m.tb.Fatalf("%v ended %v ago, and its end is not kept", call.key, age)
	}
}

func (m *model) marked() (calls uint64) {
	for i := range m.sessions.shards {
		calls += m.sessions.shards[i].admitted
	}
	return calls
}

// TestSettlesAndCopiesAtTheSameMoment has callers and copies meet in a session at once.
func TestSettlesAndCopiesAtTheSameMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 10)
	session := atmostonce.NewSession(w.time())
	for seq := range uint64(3000) {
		var ran atomic.Int64
		var answers [3]fate
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				call := &marked{method: "m"}
				if w.sessions.admit(someone, session, seq+1, call) == admitted {
					ran.Add(1)
					w.finish(call, fateOK, false, []byte("x"))
				}
			})
		}
		for i := range answers {
			group.Go(func() {
				got := ask(w.sessions, someone, session, seq+1)
				if got.ended != nil {
					<-got.ended
					got = ask(w.sessions, someone, session, seq+1)
				}
				answers[i] = got.fate
			})
		}
		group.Wait()
		want := fateRefused
		if ran.Load() > 0 {
			want = fateOK
		}
		if ran.Load() > 1 || answers != [3]fate{want, want, want} {
			t.Fatalf("call %d ran %d times, and was settled as %v", seq+1, ran.Load(), answers)
		}
	}
}
