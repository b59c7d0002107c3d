package server

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// arrivals admits numbers and says what is wrong with what the window makes of
// them: the model is the set of all that was accepted, and the highest.
type arrivals struct {
	window  *window
	highest uint64
	floor   uint64 // up to which all counts as accepted
	seen    map[uint64]struct{}
}

func newArrivals(highest uint64) *arrivals {
	return &arrivals{window: newWindow(highest), highest: highest, floor: highest, seen: make(map[uint64]struct{})}
}

func (a *arrivals) accept(tb testing.TB, seq uint64) {
	tb.Helper()
	before := a.highest
	_, again := a.seen[seq]
	again = again || seq <= a.floor
	late := before > seq && before-seq >= atmostonce.WindowSize
	if got, want := a.window.accept(&a.highest, seq), !again && !late; got != want {
		tb.Fatalf("accept(%d) after a highest of %d = %v; it came before: %v, it is below the window: %v", seq, before, got, again, late)
	} else if got {
		a.seen[seq] = struct{}{}
	}
	if want := max(before, seq); !again && !late && a.highest != want {
		tb.Fatalf("the highest is %d after %d and %d", a.highest, before, seq)
	}
}

func TestAWindowAcceptsEachNumberOnceAndNoneBelowIt(t *testing.T) {
	t.Parallel()
	const top = math.MaxUint64
	for title, seqs := range map[string][]uint64{
		"one after the other": {1, 2, 3, 4, 4, 3, 2, 1},
		"backwards":           {4, 3, 2, 1, 1, 2, 3, 4},
		"the lowest of the window and the one below":  {8193, 2, 1, 2, 8193, 8194, 2, 3},
		"the lowest at the edge of a word":            {8191, 8192, 1, 8255, 64, 63, 8256, 65, 64},
		"a jump of exactly the window":                {1, 2, 8194, 2, 3, 1},
		"a jump of exactly the ring":                  {5, 5 + 129*64, 5, 6 + 64, 5 + 129*64},
		"a jump of one ring, into a word marked full": {64, 65, 127, 64 + 129*64, 65 + 129*64, 127 + 129*64},
		"a jump far over the window, and back":        {1, 1 << 40, 1, 1<<40 - 1, 1<<40 - 8191, 1<<40 - 8192},
		"the highest that there is":                   {1, top, top, top - 1, top - 8191, top - 8192, 1, top - 1},
		"up to the highest":                           {top - 3, top - 1, top, top - 2, top - 3},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			a := newArrivals(0)
			for _, seq := range seqs {
				a.accept(t, seq)
			}
		})
	}
}

func TestAWindowIsAsWideAsItSays(t *testing.T) {
	t.Parallel()
	for _, highest := range []uint64{8192, 8193, 8255, 8256, 100_000, math.MaxUint64 - 1, math.MaxUint64} {
		a := newArrivals(0)
		a.accept(t, highest)
		for below := uint64(1); below < atmostonce.WindowSize && below < highest; below++ {
			a.accept(t, highest-below)
		}
		if want := int(min(atmostonce.WindowSize, highest)); len(a.seen) != want {
			t.Errorf("%d of the last %d numbers up to %d were accepted", len(a.seen), want, highest)
		}
	}
}

func TestAWindowThatContinuesTakesAllUpToItsHighestForAccepted(t *testing.T) {
	t.Parallel()
	for _, highest := range []uint64{1, 62, 63, 64, 65, 8191, 8192, 8255, 8256, 1 << 40, math.MaxUint64 - 1, math.MaxUint64} {
		a := newArrivals(highest)
		for _, above := range []uint64{0, 1, 2, 70, 64, 63, 8191, 8000, 3, 8192 + 70, 8300} {
			if above <= math.MaxUint64-highest {
				a.accept(t, highest+above)
			}
			if above < highest {
				a.accept(t, highest-above)
			}
		}
	}
}

func TestFiveMillionRandomArrivalsAreAcceptedAtMostOnce(t *testing.T) {
	t.Parallel()
	const arrivalCount = 5_000_000
	random := rand.New(rand.NewPCG(6479, 8192))
	// A bitmap, not the map of the small tests: the numbers are dense.
	const most = arrivalCount
	var (
		seen    [most/64 + 1]uint64
		w       = newWindow(0)
		highest uint64
		counted int
	)
	for range arrivalCount {
		var seq uint64
		switch random.IntN(8) {
		case 0, 1, 2: // the next, with some lost
			seq = highest + 1 + random.Uint64N(3)
		case 3: // a long jump, at times over the whole window
			seq = highest + 1
			if random.IntN(2000) == 0 {
				seq += random.Uint64N(3 * atmostonce.WindowSize)
			}
		default: // a late one or a copy, at times from below the window
			seq = highest - min(highest, random.Uint64N(atmostonce.WindowSize+atmostonce.WindowSize/8))
		}
		if seq == 0 || seq >= most {
			continue
		}
		before := highest
		again := seen[seq/64]>>(seq%64)&1 == 1
		late := before > seq && before-seq >= atmostonce.WindowSize
		switch got := w.accept(&highest, seq); {
		case got && again:
			t.Fatalf("%d was accepted twice", seq)
		case got && late:
			t.Fatalf("%d was accepted, %d below the highest", seq, before-seq)
		case !got && !again && !late:
			t.Fatalf("%d was refused after %d, though it is new and in the window", seq, before)
		case got:
			seen[seq/64] |= 1 << (seq % 64)
			counted++
		}
	}
	if counted < arrivalCount/3 {
		t.Errorf("only %d of %d were accepted: the arrivals are not what they should be", counted, arrivalCount)
	}
}

func FuzzWindow(f *testing.F) {
	f.Add(uint64(0), []byte{1, 2, 1, 255, 1, 128})
	f.Add(uint64(math.MaxUint64-300), []byte{100, 100, 100, 100, 0, 0})
	f.Add(uint64(63), []byte{1, 1, 130, 130, 66})
	f.Fuzz(func(t *testing.T, highest uint64, steps []byte) {
		a := newArrivals(highest)
		for _, step := range steps {
			// Small and large steps both ways, as wide as the window and more.
			var by uint64
			if size := uint64(step & 0x3f); size < 32 {
				by = size
			} else {
				by = (size - 31) * 300
			}
			switch {
			case step&0x40 != 0 && by < a.highest:
				a.accept(t, a.highest-by)
			case step&0x40 == 0 && by <= math.MaxUint64-a.highest && a.highest+by > 0:
				a.accept(t, a.highest+by)
			}
		}
	})
}
