package atmostonce

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/onecall-dev/onecall/discovery"
)

// The wire: metadata keys, and the values of [OutcomeKey].
const (
	// Prefix begins every key that is reserved for the framework. Values that
	// programs and gateways set are replaced.
	Prefix = "onecall-"
	// CallKey is the request's metadata key of the identity.
	CallKey = "onecall-call"
	// OutcomeKey is the trailer of an error reply that says whether the handler
	// ran.
	OutcomeKey = "onecall-outcome"
	// IncarnationKey is the trailer of an error reply that names the instance which
	// sent it, and the header of the health service's replies.
	IncarnationKey = "onecall-incarnation"
	// SettlesKey is the header of the health service's replies with which an instance
	// says for whose calls it answers what became of them: [SettlesAny], or by default
	// for its own.
	SettlesKey = "onecall-settles"

	// SettlesAny says that the instance answers for the calls of all instances that
	// share its ledger.
	SettlesAny = "any"
	// OutcomeRefused says that the call was marked, and that its handler did not run
	// and never will.
	OutcomeRefused = "refused"
	// OutcomeExecuted says that the handler ran, and that this is its error.
	OutcomeExecuted = "executed"
)

// WindowSize is how far below the highest number of its session a number may
// arrive and still be admitted.
const WindowSize = 8192

const (
	idBytes = 16
	// idText is the length of 128 bits as text: unpadded base64url.
	idText = 22
	// seqText is the most digits that a sequence number has.
	seqText = 20
	// maxValue is the length of the longest identity's value.
	maxValue = 2*idText + 2 + seqText
)

// Session is 128 bits that name one series of a caller's sequence numbers, made like
// a UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, the rest random. It is a secret,
// because whoever knows it can use up its numbers.
type Session [idBytes]byte

// NewSession returns a new random session that was created at a time.
func NewSession(created time.Time) Session {
	var s Session
	_, _ = rand.Read(s[6:]) // never fails: see crypto/rand
	var milliseconds [8]byte
	binary.BigEndian.PutUint64(milliseconds[:], uint64(created.UnixMilli())) // 48 of its bits last until the year 10889
	copy(s[:6], milliseconds[2:])
	s[6] = s[6]&0x0f | 0x70 // version 7
	s[8] = s[8]&0x3f | 0x80 // variant of RFC 9562
	return s
}

// Created returns when the session was created by the caller's clock, to the
// millisecond.
func (s Session) Created() time.Time {
	var milliseconds [8]byte
	copy(milliseconds[2:], s[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(milliseconds[:]))) //nolint:gosec // 48 bits
}

// String returns a hash, for logs.
func (s Session) String() string {
	sum := sha256.Sum256(s[:])
	return "session:" + hex.EncodeToString(sum[:6])
}

// Identity makes a call unique to a server.
type Identity struct {
	// Incarnation is the instance that the call is bound to.
	Incarnation discovery.Incarnation
	// Session is the caller's.
	Session Session
	// Seq counts calls of the session to the incarnation, from 1.
	Seq uint64
}

// Value returns the value of [CallKey]:
// "<incarnation>.<session>.<sequence number>".
func (i Identity) Value() string {
	buffer := make([]byte, 0, maxValue)
	buffer = base64.RawURLEncoding.AppendEncode(buffer, i.Incarnation[:])
	buffer = append(buffer, '.')
	buffer = base64.RawURLEncoding.AppendEncode(buffer, i.Session[:])
	buffer = append(buffer, '.')
	return string(strconv.AppendUint(buffer, i.Seq, 10))
}

// String returns the identity for logs, with a hash of its session.
func (i Identity) String() string {
	return fmt.Sprintf("%s.%s.%d", i.Incarnation, i.Session, i.Seq)
}

var errZeroSession = errors.New("its session is zero")

// ParseIdentity parses the value of [CallKey]. It accepts exactly one text for each
// identity. Its errors do not repeat the value.
func ParseIdentity(value string) (Identity, error) {
	const fixed = 2*idText + 2
	if len(value) <= fixed || len(value) > fixed+seqText || value[idText] != '.' || value[fixed-1] != '.' {
		return Identity{}, errors.New(`it is not "<incarnation>.<session>.<sequence number>"`)
	}
	var identity Identity
	if err := parseID(identity.Incarnation[:], value[:idText]); err != nil {
		return Identity{}, fmt.Errorf("its incarnation %w", err)
	}
	if err := parseID(identity.Session[:], value[idText+1:fixed-1]); err != nil {
		return Identity{}, fmt.Errorf("its session %w", err)
	}
	var err error
	if identity.Seq, err = parseSeq(value[fixed:]); err != nil {
		return Identity{}, err
	}
	switch {
	case identity.Incarnation.IsZero():
		return Identity{}, errors.New("its incarnation is zero")
	case identity.Session == Session{}:
		return Identity{}, errZeroSession
	}
	return identity, nil
}

// strict decodes one text alone for each value.
var strict = base64.RawURLEncoding.Strict()

// parseID reads an id from a text of idText bytes.
func parseID(id []byte, text string) error {
	read, err := strict.Decode(id, []byte(text))
	if err != nil || read != len(id) { // too few are read if there are line breaks, which base64 skips
		return errors.New("is not 22 characters of unpadded base64url")
	}
	return nil
}

func parseSeq(text string) (uint64, error) {
	if text[0] < '1' || text[0] > '9' { // no zero, sign, space or padding
		return 0, errors.New("its sequence number is not a decimal number from 1")
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, errors.New("its sequence number is not a decimal number from 1 to 2^64-1")
	}
	return seq, nil
}
