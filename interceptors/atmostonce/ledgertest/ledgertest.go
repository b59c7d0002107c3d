// Package ledgertest is the suite that every [atmostonce.Ledger] passes, and a
// ledger in memory for tests.
package ledgertest

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// patience is how long a ledger may take to answer, or to see that a context
// has ended.
const patience = 2 * time.Minute

// Run runs the suite. Each test calls open for two ledgers that share one store, as
// two processes would. open closes them when the test ends.
func Run(t *testing.T, open func(t *testing.T) (here, elsewhere atmostonce.Ledger)) {
	t.Helper()
	tests := map[string]func(t *testing.T, here, elsewhere atmostonce.Ledger){
		"a call is fresh once, wherever its copies arrive":     freshOnce,
		"of many copies at one moment exactly one is fresh":    freshOnceAtOneMoment,
		"calls are independent of each other":                  callsAreApart,
		"a context that has ended takes nothing":               endedContextTakesNothing,
		"a context that ends on the way never makes two fresh": contextEndsOnTheWay,
		"malformed keys are refused":                           badKeysAreRefused,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			here, elsewhere := open(t)
			test(t, here, elsewhere)
		})
	}
}

// Key returns the key of a new call.
func Key() string {
	return atmostonce.LedgerKey(atmostonce.Identity{
		Incarnation: discovery.NewIncarnation(),
		Session:     atmostonce.NewSession(time.Now()),
		Seq:         1,
	})
}

// Want begins a call and checks the result.
func Want(t *testing.T, ledger atmostonce.Ledger, key string, want bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if fresh, err := ledger.Begin(ctx, key); fresh != want || err != nil {
		t.Errorf("Begin = %t, %v; want %t", fresh, err, want)
	}
}

// WantError begins a call that must be refused as not known, in bounded time.
func WantError(ctx context.Context, t *testing.T, ledger atmostonce.Ledger, key string) error {
	t.Helper()
	start := time.Now()
	fresh, err := ledger.Begin(ctx, key)
	if fresh || err == nil {
		t.Errorf("Begin = %t, %v; want an error and not fresh", fresh, err)
	}
	if took := time.Since(start); took > patience {
		t.Errorf("the error came after %v", took)
	}
	return err
}

func freshOnce(t *testing.T, here, elsewhere atmostonce.Ledger) {
	t.Helper()
	first, second := Key(), Key()
	Want(t, here, first, true)
	Want(t, elsewhere, first, false)
	Want(t, here, first, false)
	Want(t, elsewhere, second, true)
	Want(t, here, second, false)
}

func freshOnceAtOneMoment(t *testing.T, here, elsewhere atmostonce.Ledger) {
	t.Helper()
	const calls, copies = 20, 16
	for range calls {
		key := Key()
		var fresh, failed atomic.Int64
		together(copies, func(i int) {
			switch ok, err := pick(i, here, elsewhere).Begin(t.Context(), key); {
			case err != nil:
				failed.Add(1)
			case ok:
				fresh.Add(1)
			}
		})
		if fresh.Load() != 1 || failed.Load() != 0 {
			t.Fatalf("of %d copies %d were fresh and %d failed, want 1 and 0", copies, fresh.Load(), failed.Load())
		}
	}
}

func callsAreApart(t *testing.T, here, elsewhere atmostonce.Ledger) {
	t.Helper()
	keys := []string{"a", "A", "aa", "a-", "a_", "-a", rand.Text(), strings.Repeat("a", atmostonce.MaxLedgerKey)}
	for range 32 {
		keys = append(keys, Key())
	}
	together(len(keys), func(i int) { Want(t, pick(i, here, elsewhere), keys[i], true) })
	together(len(keys), func(i int) { Want(t, pick(i+1, here, elsewhere), keys[i], false) })
}

func endedContextTakesNothing(t *testing.T, here, elsewhere atmostonce.Ledger) {
	t.Helper()
	key := Key()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = WantError(ctx, t, here, key)
	Want(t, elsewhere, key, true)
	_ = WantError(ctx, t, here, key) // also when it is known
}

func contextEndsOnTheWay(t *testing.T, here, elsewhere atmostonce.Ledger) {
	t.Helper()
	for i := range 100 {
		key := Key()
		var fresh atomic.Int64
		begin := func(ctx context.Context, ledger atmostonce.Ledger) {
			ok, err := ledger.Begin(ctx, key)
			if ok {
				fresh.Add(1)
			}
			if ok && err != nil {
				t.Errorf("Begin says that the call is fresh and %v", err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*20*time.Microsecond)
		together(2, func(i int) { begin(ctx, pick(i, here, elsewhere)) })
		cancel()
		// Whether it was taken is not known, but one of the next may have it
		// at most, and only if none before had it.
		together(2, func(i int) { begin(t.Context(), pick(i, here, elsewhere)) })
		if fresh.Load() > 1 {
			t.Fatalf("a call was fresh %d times", fresh.Load())
		}
		Want(t, here, key, false)
	}
}

func badKeysAreRefused(t *testing.T, here, elsewhere atmostonce.Ledger) {
	t.Helper()
	for _, key := range []string{"", "a/b", "../a", "a.b", "a b", "a\x00", "a\n", "ä", strings.Repeat("a", atmostonce.MaxLedgerKey+1)} {
		for _, ledger := range []atmostonce.Ledger{here, elsewhere} {
			if err := WantError(t.Context(), t, ledger, key); err != nil && len(key) > 1 && strings.Contains(err.Error(), key) {
				t.Errorf("the error of a bad key repeats it: %v", err)
			}
		}
	}
}

// together runs a function n times at one moment.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	all.Wait()
}

// pick returns one of the two ledgers by turns.
func pick(i int, here, elsewhere atmostonce.Ledger) atmostonce.Ledger {
	if i%2 == 0 {
		return here
	}
	return elsewhere
}
