package atmostonce_test

import (
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

func TestACallHasOneKeyInALedger(t *testing.T) {
	t.Parallel()
	identity := atmostonce.Identity{Incarnation: discovery.NewIncarnation(), Session: atmostonce.NewSession(time.Now()), Seq: 1}
	key := atmostonce.LedgerKey(identity)
	if err := atmostonce.CheckLedgerKey(key); err != nil {
		t.Errorf("the key %s is not one: %v", key, err)
	}
	copied, err := atmostonce.ParseIdentity(identity.Value())
	if err != nil {
		t.Fatal(err)
	}
	if got := atmostonce.LedgerKey(copied); got != key {
		t.Errorf("a copy of the call has the key %s, the call %s", got, key)
	}
	_, session, _ := strings.Cut(identity.Value(), ".")
	if session, _, _ = strings.Cut(session, "."); strings.Contains(key, session) {
		t.Error("the key shows the session, which is a secret")
	}
}

func TestDifferentCallsHaveDifferentKeysInALedger(t *testing.T) {
	t.Parallel()
	base := atmostonce.Identity{Incarnation: discovery.Incarnation{1}, Session: atmostonce.Session{1}, Seq: 1}
	keys := map[string]string{}
	for name, change := range map[string]func(*atmostonce.Identity){
		"the call":                      func(*atmostonce.Identity) {},
		"the next number":               func(i *atmostonce.Identity) { i.Seq = 2 },
		"a number of eight bytes":       func(i *atmostonce.Identity) { i.Seq = 1 << 56 },
		"another session":               func(i *atmostonce.Identity) { i.Session[15] = 1 },
		"the number at another counter": func(i *atmostonce.Identity) { i.Incarnation[15] = 1 },
		"the ids exchanged":             func(i *atmostonce.Identity) { i.Incarnation[0], i.Session[0] = 2, 3 },
		"the ids exchanged again":       func(i *atmostonce.Identity) { i.Incarnation[0], i.Session[0] = 3, 2 },
	} {
		t.Run(name, func(t *testing.T) {
			identity := base
			change(&identity)
			key := atmostonce.LedgerKey(identity)
			if other, taken := keys[key]; taken {
				t.Errorf("%s has the key of %s", name, other)
			}
			keys[key] = name
		})
	}
}

// The keys in a ledger outlive a process and its version: the key of a
// call must never change.
func TestTheKeyOfACallInALedgerStays(t *testing.T) {
	t.Parallel()
	identity, err := atmostonce.ParseIdentity("AAECAwQFBgcICQoLDA0ODw.AZhbsOgAcAECAwQFBgcICQ.42")
	if err != nil {
		t.Fatal(err)
	}
	const want = "uGjGQJgaWL8j5qmB3dnAGGOlARKSf5VExP1OlNpLKgk"
	if got := atmostonce.LedgerKey(identity); got != want {
		t.Errorf("the key is %s, want %s", got, want)
	}
}

func TestBadKeysOfALedgerAreErrors(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"a", "-_09azAZ", strings.Repeat("a", atmostonce.MaxLedgerKey)} {
		if err := atmostonce.CheckLedgerKey(key); err != nil {
			t.Errorf("CheckLedgerKey(%q) = %v, want no error", key, err)
		}
	}
	for name, key := range map[string]string{
		"empty":      "",
		"too long":   strings.Repeat("a", atmostonce.MaxLedgerKey+1),
		"a slash":    "a/b",
		"a dot":      "a.b",
		"a zero":     "a\x00",
		"a space":    "a b",
		"not ASCII":  "ä",
		"line break": "a\n",
	} {
		t.Run(name, func(t *testing.T) {
			if err := atmostonce.CheckLedgerKey(key); err == nil || (key != "" && strings.Contains(err.Error(), key)) {
				t.Errorf("CheckLedgerKey with %s = %v, want an error that does not repeat the key", name, err)
			}
		})
	}
}
