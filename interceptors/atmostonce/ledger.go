package atmostonce

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// Ledger remembers for several instances together which calls began. It takes
// the place of each instance's own window where something between caller and
// instances, such as an L7 balancer, picks the instance: a copy of a call may
// then reach any of them, whichever the call is bound to.
//
// An instance with a ledger asks it before every identified call, also one
// that is bound to itself: else a call that ran at its own instance would
// still be fresh to the ledger when a copy reaches another.
//
// A ledger is safe for all goroutines.
type Ledger interface {
	// Begin is called before the handler, once for each arrival of a call.
	//
	// fresh is true at most once for each key within the ledger's retention,
	// over all processes that share the ledger, and only then may the handler
	// run. The retention is counted from the return of that Begin. A ledger
	// may remember longer, never shorter; what it forgot is fresh again, so
	// that its retention must exceed the time after which anything in between
	// may still deliver a copy.
	//
	// fresh is false without an error when the key was taken before: the call
	// is a duplicate.
	//
	// An error means "not known", and fresh is false: the call must be
	// refused. The key may or may not have been taken; if it was, a later
	// Begin says that it is not fresh. So a Begin must not be repeated in the
	// hope of a better answer, nor does a ledger ever give a key back.
	//
	// When ctx ends first, Begin returns promptly with an error. A ledger that
	// asks over a network bounds its wait itself when ctx has no deadline.
	//
	// key is what [LedgerKey] gives; [CheckLedgerKey] says what else is
	// allowed. Begin of any other key is an error.
	Begin(ctx context.Context, key string) (fresh bool, err error)
}

// MaxLedgerKey is the length of the longest key of a [Ledger], in bytes.
const MaxLedgerKey = 64

// LedgerKey gives the key of a call in a [Ledger]: 43 characters of unpadded
// base64url, the SHA-256 of the identity. All three parts count: sequence
// numbers are counted for each incarnation, so that one session has a call of
// the same number at each of two incarnations, and these are two calls. Copies
// of one call are equal in all three.
//
// It is a hash because a session is a secret: what stands in a ledger lets
// nobody use up a session's numbers.
func LedgerKey(identity Identity) string {
	const parts = 2*idBytes + 8
	buffer := make([]byte, 0, parts)
	buffer = append(buffer, identity.Incarnation[:]...)
	buffer = append(buffer, identity.Session[:]...)
	buffer = binary.BigEndian.AppendUint64(buffer, identity.Seq)
	sum := sha256.Sum256(buffer)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// CheckLedgerKey says what is wrong with a key, for implementations of
// [Ledger]: a key is 1 to [MaxLedgerKey] letters and digits of ASCII, "-" and
// "_". The error does not repeat the key.
func CheckLedgerKey(key string) error {
	if key == "" || len(key) > MaxLedgerKey {
		return fmt.Errorf("the key of a ledger has %d characters: give 1 to %d", len(key), MaxLedgerKey)
	}
	for i := range len(key) {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("the key of a ledger has the character %q: give letters, digits, - and _", c)
		}
	}
	return nil
}
