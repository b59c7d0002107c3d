package server

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// entry is a session as the table holds it: 40 bytes without a pointer, so that
// the garbage collector passes a million of them by.
type entry struct {
	session   atmostonce.Session
	principal principal
	// highest is the highest number admitted; 0 in an empty place only, since a
	// session begins with its first call.
	highest uint64
	// used is the tick of the last call that was admitted.
	used uint32
	// window is where the session's window is in the shard's, from 1; 0 once
	// it is collapsed.
	window uint32
}

// table is a hash table of sessions, by linear probing. Go's own maps double,
// which at a million sessions takes 77 bytes for each of these entries; this one
// takes 50 to 57. Its zero value is empty. Its owner locks it.
type table struct {
	places []entry
	count  int
}

const (
	// The table is at most 4/5 full, and grows by 1/8.
	fullNumerator, fullDenominator = 4, 5
	growth                         = 8
	smallest                       = 4
)

// hash is where a session's place is sought. Sessions come from outside, so it
// is keyed: nobody can make them collide.
func hash(seed maphash.Seed, session atmostonce.Session, p principal) uint64 {
	var key [len(atmostonce.Session{}) + 8]byte
	copy(key[:], session[:])
	binary.NativeEndian.PutUint64(key[len(session):], uint64(p.scope()))
	return maphash.Bytes(seed, key[:])
}

// home is the place at which a hash's probes begin. The low bits chose the
// shard; these are the high ones.
func (t *table) home(hashed uint64) int {
	return int(hashed >> 32 * uint64(len(t.places)) >> 32)
}

// next is the place that is probed after another.
func (t *table) next(i int) int {
	if i+1 == len(t.places) {
		return 0
	}
	return i + 1
}

// find gives the entry of a session, nil when it is not there. It is valid until
// the table is next changed.
func (t *table) find(hashed uint64, session *atmostonce.Session, scope principal) *entry {
	if len(t.places) == 0 {
		return nil
	}
	for i := t.home(hashed); ; {
		e := &t.places[i]
		if e.highest == 0 {
			return nil
		}
		if e.session == *session && e.principal.scope() == scope {
			return e
		}
		i = t.next(i)
	}
}

// insert adds a session that is not there.
func (t *table) insert(seed maphash.Seed, hashed uint64, e entry) {
	if (t.count+1)*fullDenominator > len(t.places)*fullNumerator {
		t.resize(seed, len(t.places)+len(t.places)/growth+smallest)
	}
	t.count++
	t.put(hashed, e)
}

func (t *table) put(hashed uint64, e entry) {
	i := t.home(hashed)
	for t.places[i].highest != 0 {
		i = t.next(i)
	}
	t.places[i] = e
}

// remove empties a place and moves back what was pushed on by it, so that probes
// still end at the first empty place.
func (t *table) remove(seed maphash.Seed, empty int) {
	t.count--
	for i := empty; ; {
		i = t.next(i)
		e := &t.places[i]
		if e.highest == 0 {
			t.places[empty] = entry{}
			return
		}
		home := t.home(hash(seed, e.session, e.principal))
		// Whose home lies after the empty place, cyclically, up to its own,
		// stays.
		if (i > empty && home > empty && home <= i) || (i < empty && (home > empty || home <= i)) {
			continue
		}
		t.places[empty] = *e
		empty = i
	}
}

// shrink gives memory back when most of the table is empty.
func (t *table) shrink(seed maphash.Seed) {
	const sparse = 4
	if len(t.places) > smallest && t.count*sparse < len(t.places) {
		t.resize(seed, t.count*fullDenominator/fullNumerator+smallest)
	}
}

func (t *table) resize(seed maphash.Seed, places int) {
	old := t.places
	if t.places = nil; t.count == 0 && len(old) > 0 {
		return
	}
	t.places = make([]entry, places)
	for i := range old {
		if old[i].highest != 0 {
			t.put(hash(seed, old[i].session, old[i].principal), old[i])
		}
	}
}
