package atmostonce

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
)

// Ledger remembers which calls began, for several instances together. It is needed
// where something between caller and instances picks the instance, such as an L7
// load balancer: a copy of a call may then reach any instance, not only the one that
// the call is bound to.
//
// An instance with a ledger calls it before every identified call, also before one
// that is bound to the instance itself. Otherwise such a call would still be fresh to
// the ledger when a copy reaches another instance.
//
// A ledger is safe for all goroutines.
type Ledger interface {
	// Begin is called before the handler, once for each arrival of a call.
	//
	// fresh is true at most once for each key within the ledger's retention,
	// over all processes that share the ledger. Only then may the handler run.
	// The retention is counted from the return of that Begin. A ledger may
	// remember longer, never shorter. A key that it forgot is fresh again, so
	// the retention must exceed the time after which anything may still deliver
	// a copy.
	//
	// fresh is false without an error if the key was taken before: the call is a
	// duplicate.
	//
	// An error means "not known", and fresh is false: the call must be refused.
	// The key may have been taken; if it was, it is not fresh for a later Begin.
	// So Begin must not be repeated after an error, and a ledger never frees a
	// key.
	//
	// When ctx ends first, Begin returns promptly with an error. A ledger on a
	// network limits its wait itself if ctx has no deadline.
	//
	// key is a result of [LedgerKey]. Begin returns an error for a key for which
	// [CheckLedgerKey] does.
	Begin(ctx context.Context, key string) (fresh bool, err error)
}

// SettlingLedger is a [Ledger] that also remembers what became of calls. With it, each
// instance can answer for the calls that another one served, also after that one has
// ended.
//
// An instance calls Take instead of Begin, and Done when the call has ended.
type SettlingLedger interface {
	Ledger

	// Take does what Begin does, by the same rules, and stores an entry with the key
	// if it is fresh. It returns an error for an entry for which
	// [LedgerEntry.Check] does.
	Take(ctx context.Context, key string, entry LedgerEntry) (fresh bool, err error)

	// Done replaces the entry of a key. Only the process for which Take was fresh
	// calls it, once at most, before the retention has passed. If the ledger does not
	// have the key any more, Done does nothing. After an error it is not known whether
	// the entry was replaced.
	Done(ctx context.Context, key string, entry LedgerEntry) error

	// Find returns the entry of a key, as it is after every Take and Done that
	// returned before. known is false if the ledger does not have the key. The entry
	// of a key of Begin is zero.
	Find(ctx context.Context, key string) (entry LedgerEntry, known bool, err error)

	// Retention is how long a key is remembered at least. It never changes.
	Retention() time.Duration
}

// LedgerEntry is what a [SettlingLedger] remembers of a call besides its key.
type LedgerEntry struct {
	// Owner is a hash of who makes the call, and of its method: no key that is
	// malformed, or "".
	Owner string
	// Outcome is [Unknown] while the call has not ended, and [Refused] or [Executed]
	// afterwards.
	Outcome Outcome
	// Code is the code with which an executed call ended. Otherwise it is OK.
	Code codes.Code
}

// Check returns an error if a ledger must not store the entry. It is for
// implementations of [SettlingLedger].
func (e LedgerEntry) Check() error {
	switch {
	case e.Owner != "" && CheckLedgerKey(e.Owner) != nil:
		return errors.New("the owner of a ledger's entry is malformed: give a hash, or none")
	case e.Outcome != Unknown && e.Outcome != Refused && e.Outcome != Executed:
		return fmt.Errorf("the outcome of a ledger's entry is %q: only Unknown, Refused and Executed are allowed", e.Outcome)
	case e.Outcome != Executed && e.Code != codes.OK:
		return fmt.Errorf("a ledger's entry has the code %v: only that of a call that ran may have one", e.Code)
	}
	return nil
}

// MaxLedgerKey is the length of the longest key of a [Ledger], in bytes.
const MaxLedgerKey = 64

// LedgerKey returns the key of a call in a [Ledger]: the SHA-256 of the identity, as
// 43 characters of unpadded base64url. All three parts count, because a session has
// sequence numbers of its own for each incarnation. Copies of one call are equal in
// all three.
//
// It is a hash because a session is a secret: a reader of the ledger must not be able
// to use up a session's numbers.
func LedgerKey(identity Identity) string {
	const parts = 2*idBytes + 8
	buffer := make([]byte, 0, parts)
	buffer = append(buffer, identity.Incarnation[:]...)
	buffer = append(buffer, identity.Session[:]...)
	buffer = binary.BigEndian.AppendUint64(buffer, identity.Seq)
	sum := sha256.Sum256(buffer)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// CheckLedgerKey returns an error if a key is not 1 to [MaxLedgerKey] letters and
// digits of ASCII, "-" and "_". It is for implementations of [Ledger]. The error does
// not repeat the key.
func CheckLedgerKey(key string) error {
	if key == "" || len(key) > MaxLedgerKey {
		return fmt.Errorf("the key of a ledger has %d characters instead of 1 to %d", len(key), MaxLedgerKey)
	}
	for i := range len(key) {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("the key of a ledger has the character %q: only letters, digits, - and _ are allowed", c)
		}
	}
	return nil
}
