package server

import (
	"cmp"
	"math"
	"time"
)

const (
	// keptOverhead is what an end takes besides its data, in bytes.
	keptOverhead = 192
	// justInCase is how long the end of a call is kept whose caller most likely
	// received it.
	justInCase = uint32(10 * time.Second / tick)
	// evictPart is the part of the server's limit that is freed when it is full, so that
	// this is rare.
	evictPart = 16
	// expireMost is how many ends a sweep of a shard drops, because calls wait for it.
	expireMost = 4096
)

// keeping is how much is kept, and how long.
type keeping struct {
	// all and session are limits in bytes, of the server and of what a session keeps
	// just in case. Of the ends that are larger than session, a session keeps the newest
	// just in case.
	all, session int
	lost         uint32 // in ticks
}

// newKeeping returns what a config says.
func newKeeping(config Config) keeping {
	return keeping{
		all:     cmp.Or(config.MaxKept, DefaultMaxKept),
		session: cmp.Or(config.MaxKeptPerSession, DefaultMaxKeptPerSession),
		lost:    uint32(min(max(cmp.Or(config.KeepLost, DefaultKeepLost)/tick, 1), math.MaxUint32)),
	}
}

// kept is the end of a call, for a caller that did not receive it. The lock of the
// session's shard guards it.
type kept struct {
	session *session
	seq     uint64
	method  string
	fate    fate
	// lost is whether the caller had gone when the call ended.
	lost bool
	// data is the serialized reply of fateOK, or the serialized status of fateFailed.
	// It is nil if it is not kept.
	data []byte
	at   uint32 // the tick in which the call ended

	before, after *kept // in the shard's list
	younger       *kept // in the session's list of ends that are kept just in case
}

// bytes returns what the end takes.
func (k *kept) bytes() int { return len(k.data) + keptOverhead }

// keptList is a list of ends, the oldest first.
type keptList struct{ first, last *kept }

func (l *keptList) add(k *kept) {
	k.before = l.last
	if l.last != nil {
		l.last.after = k
	} else {
		l.first = k
	}
	l.last = k
}

func (l *keptList) remove(k *kept) {
	if k.before != nil {
		k.before.after = k.after
	} else {
		l.first = k.after
	}
	if k.after != nil {
		k.after.before = k.before
	} else {
		l.last = k.before
	}
	k.before, k.after = nil, nil
}

// list returns the shard's list that an end is in.
func (s *shard) list(lost bool) *keptList {
	if lost {
		return &s.lost
	}
	return &s.justInCase
}

// limit returns how many bytes the data of one end may have. Ends that are kept just in
// case leave room for others.
func (k keeping) limit(lost bool) int {
	if lost {
		return k.all - keptOverhead
	}
	return k.all/evictPart - keptOverhead
}

// reserve makes room for an end, and reports whether there is. The caller must call
// [sessions.end] with it if there is. No shard's lock is held.
func (s *sessions) reserve(k *kept) bool {
	bytes := int64(k.bytes())
	if s.kept.Add(bytes) <= int64(s.keeping.all) {
		return true
	}
	s.evict(k.lost)
	if s.kept.Load() <= int64(s.keeping.all) {
		return true
	}
	s.kept.Add(-bytes) // there are too many lost ones, or calls that end at the same moment have taken the room
	return false
}

// keep keeps the end of a call of a session, for which there is room. The shard's lock
// is held.
func (s *sessions) keep(shard *shard, k *kept) {
	recent := k.session.recent
	switch {
	case k.lost:
	case k.bytes() > s.keeping.session:
		if recent.large != nil {
			s.drop(shard, recent.large)
		}
		recent.large = k
	default:
		for recent.bytes+k.bytes() > s.keeping.session {
			s.drop(shard, recent.oldest)
		}
		recent.add(k)
	}
	if recent.kept == nil {
		recent.kept = make(map[uint64]*kept)
	}
	recent.kept[k.seq] = k
	shard.list(k.lost).add(k)
}

// drop drops an end. If its session keeps it just in case, it must be the large one or
// the oldest. The shard's lock is held.
func (s *sessions) drop(shard *shard, k *kept) {
	recent := k.session.recent
	switch k {
	case recent.large:
		recent.large = nil
	case recent.oldest:
		recent.removeOldest()
	}
	delete(recent.kept, k.seq)
	shard.list(k.lost).remove(k)
	s.kept.Add(-int64(k.bytes()))
}

// expired reports whether an end is no longer kept at a tick.
func (s *sessions) expired(k *kept, now uint32) bool {
	if k.lost {
		return now-k.at >= s.keeping.lost
	}
	return now-k.at >= justInCase
}

// expire drops ends of a shard that have expired. The shard's lock is held.
func (s *sessions) expire(shard *shard, now uint32) {
	left := expireMost
	for _, list := range []*keptList{&shard.justInCase, &shard.lost} {
		for ; left > 0 && list.first != nil && s.expired(list.first, now); left-- {
			s.drop(shard, list.first)
		}
	}
}

// evict drops ends until a part of the server's limit is free: first those that are kept
// just in case, then, if lostToo, the others. Of each kind the oldest go first. No
// shard's lock is held.
func (s *sessions) evict(lostToo bool) {
	s.evicting.Lock()
	defer s.evicting.Unlock()
	target := int64(s.keeping.all - s.keeping.all/evictPart)
	s.evictKind(false, target)
	if lostToo {
		s.evictKind(true, target)
	}
}

// evictKind drops ends of a kind until the server keeps no more than a target.
func (s *sessions) evictKind(lost bool, target int64) {
	for s.kept.Load() > target {
		oldest, found := s.oldestKept(lost)
		if !found {
			return
		}
		for i := range s.shards {
			s.evictShard(&s.shards[i], lost, oldest, target)
		}
	}
}

// oldestKept returns the tick of the oldest end of a kind.
func (s *sessions) oldestKept(lost bool) (oldest uint32, found bool) {
	now := s.ticks.Load()
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		if first := shard.list(lost).first; first != nil && (!found || now-first.at > now-oldest) {
			oldest, found = first.at, true
		}
		shard.mu.Unlock()
	}
	return oldest, found
}

// evictShard drops ends of a shard, of one kind and tick, until the server keeps no
// more than a target.
func (s *sessions) evictShard(shard *shard, lost bool, at uint32, target int64) {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for list := shard.list(lost); list.first != nil && list.first.at == at && s.kept.Load() > target; {
		s.drop(shard, list.first)
	}
}
