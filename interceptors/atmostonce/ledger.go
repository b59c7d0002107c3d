package atmostonce

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
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
