// Package ledgertest is the suite that every [atmostonce.Ledger] passes, also one of another
// module, and a ledger in memory for tests. docs/testing.md says what each test means:
//
//	func TestMyLedger(t *testing.T) {
//		ledgertest.Run(t, func(t *testing.T) (here, elsewhere atmostonce.Ledger) {
//			store := newStore(t)
//			return open(t, store), open(t, store)
//		})
//	}
package ledgertest

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// patience is how long a ledger may take to answer, or to see that a context
// has ended.
const patience = 2 * time.Minute

// Run runs the suite. Each test calls open for two ledgers that share one store, as
// two processes would. open closes them when the test ends. If they implement
// [atmostonce.SettlingLedger], its part of the suite runs too.
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
	settling := map[string]func(t *testing.T, here, elsewhere atmostonce.SettlingLedger){
		"what became of a call is known everywhere": entriesAreFoundEverywhere,
		"a copy changes nothing":                    copiesChangeNothing,
		"what was not taken cannot end":             endsNeedATake,
		"at one moment one of many entries counts":  oneEntryAtOneMoment,
		"malformed entries are refused":             badEntriesAreRefused,
	}
	for name, test := range settling {
		t.Run(name, func(t *testing.T) {
			here, elsewhere := open(t)
			first, ok := here.(atmostonce.SettlingLedger)
			second, too := elsewhere.(atmostonce.SettlingLedger)
			if !ok || !too {
				t.Skip("the ledger does not remember what became of calls")
			}
			test(t, first, second)
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

// WantEntry fails unless a ledger has an entry for a key.
func WantEntry(t *testing.T, ledger atmostonce.SettlingLedger, key string, want atmostonce.LedgerEntry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if found, known, err := ledger.Find(ctx, key); found != want || !known || err != nil {
		t.Errorf("Find = %v, %t, %v; want %v", found, known, err, want)
	}
}

// take takes a fresh key with an entry.
func take(t *testing.T, ledger atmostonce.SettlingLedger, key string, entry atmostonce.LedgerEntry) {
	t.Helper()
	if fresh, err := ledger.Take(t.Context(), key, entry); !fresh || err != nil {
		t.Errorf("Take = %t, %v; want fresh", fresh, err)
	}
}

// done records the end of a call.
func done(t *testing.T, ledger atmostonce.SettlingLedger, key string, entry atmostonce.LedgerEntry) {
	t.Helper()
	if err := ledger.Done(t.Context(), key, entry); err != nil {
		t.Errorf("Done: %v", err)
	}
}

func entriesAreFoundEverywhere(t *testing.T, here, elsewhere atmostonce.SettlingLedger) {
	t.Helper()
	if here.Retention() <= 0 {
		t.Errorf("the retention is %v", here.Retention())
	}
	ends := []atmostonce.LedgerEntry{
		{Owner: "one", Outcome: atmostonce.Refused},
		{Owner: "one", Outcome: atmostonce.Executed},
		{Owner: "one", Outcome: atmostonce.Executed, Code: codes.NotFound},
		{Owner: "one", Outcome: atmostonce.Executed, Code: 4_000_000_000},
	}
	for _, end := range ends {
		key := Key()
		if found, known, err := elsewhere.Find(t.Context(), key); known || err != nil {
			t.Errorf("before Take: Find = %v, %t, %v; want that the key is not known", found, known, err)
		}
		began := atmostonce.LedgerEntry{Owner: "one"}
		take(t, here, key, began)
		WantEntry(t, here, key, began)
		WantEntry(t, elsewhere, key, began)
		done(t, here, key, end)
		WantEntry(t, here, key, end)
		WantEntry(t, elsewhere, key, end)
		Want(t, elsewhere, key, false)
	}
	fenced, begun := Key(), Key()
	take(t, here, fenced, ends[0])
	WantEntry(t, elsewhere, fenced, ends[0])
	Want(t, here, begun, true)
	WantEntry(t, elsewhere, begun, atmostonce.LedgerEntry{})
}

func copiesChangeNothing(t *testing.T, here, elsewhere atmostonce.SettlingLedger) {
	t.Helper()
	key, entry := Key(), atmostonce.LedgerEntry{Owner: "one", Outcome: atmostonce.Refused}
	take(t, here, key, entry)
	for _, ledger := range []atmostonce.SettlingLedger{here, elsewhere} {
		if fresh, err := ledger.Take(t.Context(), key, atmostonce.LedgerEntry{Owner: "two"}); fresh || err != nil {
			t.Errorf("a copy: Take = %t, %v; want not fresh", fresh, err)
		}
		Want(t, ledger, key, false)
		WantEntry(t, ledger, key, entry)
	}
}

func endsNeedATake(t *testing.T, here, elsewhere atmostonce.SettlingLedger) {
	t.Helper()
	key := Key()
	done(t, here, key, atmostonce.LedgerEntry{Owner: "one", Outcome: atmostonce.Executed})
	if found, known, err := elsewhere.Find(t.Context(), key); known || err != nil {
		t.Errorf("Find = %v, %t, %v; want that the key is not known", found, known, err)
	}
	Want(t, elsewhere, key, true)
}

func oneEntryAtOneMoment(t *testing.T, here, elsewhere atmostonce.SettlingLedger) {
	t.Helper()
	const calls, copies = 20, 8
	for range calls {
		key := Key()
		entries := []atmostonce.LedgerEntry{{Owner: "a"}, {Owner: "b", Outcome: atmostonce.Refused}}
		var taken [copies]bool
		together(copies, func(i int) {
			ledger := []atmostonce.SettlingLedger{here, elsewhere}[i%2]
			var err error
			if taken[i], err = ledger.Take(t.Context(), key, entries[i/2%2]); err != nil {
				t.Errorf("Take: %v", err)
			}
		})
		fresh := 0
		for i, was := range taken {
			if was {
				fresh++
				WantEntry(t, here, key, entries[i/2%2])
				WantEntry(t, elsewhere, key, entries[i/2%2])
			}
		}
		if fresh != 1 {
			t.Fatalf("of %d copies %d were fresh, want 1", copies, fresh)
		}
	}
}

func badEntriesAreRefused(t *testing.T, here, _ atmostonce.SettlingLedger) {
	t.Helper()
	key, good := Key(), atmostonce.LedgerEntry{Owner: "one", Outcome: atmostonce.Executed}
	bad := []atmostonce.LedgerEntry{
		{Owner: "a b"},
		{Owner: strings.Repeat("a", atmostonce.MaxLedgerKey+1)},
		{Owner: "one", Outcome: atmostonce.NotSent},
		{Owner: "one", Outcome: 17},
		{Owner: "one", Code: codes.NotFound},
		{Owner: "one", Outcome: atmostonce.Refused, Code: codes.NotFound},
	}
	for _, entry := range bad {
		if fresh, err := here.Take(t.Context(), key, entry); fresh || err == nil {
			t.Errorf("%v: Take = %t, %v; want an error", entry, fresh, err)
		}
	}
	take(t, here, key, good)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, entry := range bad {
		if err := here.Done(t.Context(), key, entry); err == nil {
			t.Errorf("%v: Done without an error", entry)
		}
	}
	if err := here.Done(ended, key, atmostonce.LedgerEntry{Owner: "one", Outcome: atmostonce.Refused}); err == nil {
		t.Error("Done without an error after its context has ended")
	}
	if _, _, err := here.Find(ended, key); err == nil {
		t.Error("Find without an error after its context has ended")
	}
	if _, _, err := here.Find(t.Context(), "a/b"); err == nil {
		t.Error("Find of a malformed key without an error")
	}
	if err := here.Done(t.Context(), "a/b", good); err == nil {
		t.Error("Done of a malformed key without an error")
	}
	WantEntry(t, here, key, good)
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
