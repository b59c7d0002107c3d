package server

import (
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// BenchmarkAdmit is the critical section of a call's begin, and that of its end, with
// every core at the same session, and with each at one of its own.
func BenchmarkAdmit(b *testing.B) {
	type caller struct {
		session atmostonce.Session
		seq     atomic.Uint64
	}
	for title, shared := range map[string]bool{"one session": true, "a session each": false} {
		b.Run(title, func(b *testing.B) {
			s := newSessions(1000, 1000, time.Now)
			same := &caller{session: atmostonce.NewSession(time.Now())}
			var refused atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				c := same
				if !shared {
					c = &caller{session: atmostonce.NewSession(time.Now())}
				}
				call := &marked{method: "m"}
				for pb.Next() {
					if s.admit(someone, c.session, c.seq.Add(1), call) != admitted {
						refused.Add(1) // overtaken by the whole window
						continue
					}
					s.end(call, fateOK, nil)
				}
			})
			b.ReportMetric(float64(refused.Load())/float64(b.N), "refused/op")
		})
	}
}

// BenchmarkParse is the reading of an identity from its text.
func BenchmarkParse(b *testing.B) {
	value := atmostonce.Identity{Incarnation: discovery.NewIncarnation(), Session: atmostonce.NewSession(time.Now()), Seq: 123_456}.Value()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := atmostonce.ParseIdentity(value); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseAndAdmit is both, without the number's own counter.
func BenchmarkParseAndAdmit(b *testing.B) {
	s := newSessions(1, 1, time.Now)
	identity := atmostonce.Identity{Incarnation: discovery.NewIncarnation(), Session: atmostonce.NewSession(time.Now())}
	prefix := identity.Value()
	prefix = prefix[:len(prefix)-1]
	values := make([]string, b.N)
	for i := range values {
		values[i] = prefix + strconv.Itoa(i+1)
	}
	call := &marked{method: "m"}
	b.ReportAllocs()
	b.ResetTimer()
	for _, value := range values {
		parsed, err := atmostonce.ParseIdentity(value)
		if err != nil || s.admit(someone, parsed.Session, parsed.Seq, call) != admitted {
			b.Fatal(parsed, err)
		}
		s.end(call, fateOK, nil)
	}
}

// BenchmarkMemory measures how many bytes a session takes.
func BenchmarkMemory(b *testing.B) {
	for range b.N {
		const count = DefaultMaxSessions
		heap := func() uint64 {
			runtime.GC()
			runtime.GC()
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			return stats.HeapAlloc
		}
		empty := heap()
		s := newSessions(count, count, time.Now)
		created := time.Now()
		for range count / 10 {
			s.once(someone, atmostonce.NewSession(created), 1)
		}
		b.ReportMetric(float64(heap()-empty)/(count/10), "B/active")
		for range 9 {
			collapseAll(s)
			for range count / 10 {
				s.once(someone, atmostonce.NewSession(created), 1)
			}
		}
		collapseAll(s)
		b.ReportMetric(float64(heap()-empty)/count, "B/collapsed")
		all, collapsed, _ := s.count()
		if all != count || collapsed != count {
			b.Fatal(all, collapsed)
		}
		runtime.KeepAlive(s)
	}
}

// BenchmarkSweep measures how long one shard is locked when the server has all its
// sessions: when all stay as they are, when all are collapsed, and when as many are
// forgotten as may be.
func BenchmarkSweep(b *testing.B) {
	const count = DefaultMaxSessions
	var stay, collapse, forget time.Duration
	for range b.N {
		now := epoch
		s := newSessions(count, count, func() time.Time { return now })
		for i := range count {
			s.once(someone, numbered(now, i), 1)
		}
		each := func(ticks uint32) time.Duration {
			s.ticks.Add(ticks)
			start := time.Now()
			for i := range s.shards {
				s.sweepShard(&s.shards[i], s.ticks.Load(), s.oldest())
			}
			return time.Since(start) / shardCount
		}
		stay += each(0)
		collapse += each(collapseAfter)
		now = now.Add(2 * horizon)
		forget += each(forgetAfter)
	}
	for unit, total := range map[string]time.Duration{"stay-µs/shard": stay, "collapse-µs/shard": collapse, "forget-µs/shard": forget} {
		b.ReportMetric(float64(total.Microseconds())/float64(b.N), unit)
	}
}

// collapseAll lets a minute pass.
func collapseAll(s *sessions) {
	s.ticks.Add(collapseAfter)
	sweepAll(s, 0)
}

// sweepAll lets ticks pass and goes through all shards.
func sweepAll(s *sessions, ticks uint32) {
	s.sweep(ticks)
	for range shardCount/sweepShards - 1 {
		s.sweep(0)
	}
}

// BenchmarkEnd measures what the end of a call takes, besides its begin: without anything
// to keep, and with a reply of 50 bytes and of 4 KiB.
func BenchmarkEnd(b *testing.B) {
	for title, reply := range map[string]proto.Message{
		"nothing kept": nil,
		"50 bytes":     wrapperspb.String(strings.Repeat("x", 50)),
		"4 KiB":        wrapperspb.String(strings.Repeat("x", 4<<10)),
	} {
		b.Run(title, func(b *testing.B) {
			server, err := newServer(Config{Incarnation: discovery.NewIncarnation()}, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			session := atmostonce.NewSession(time.Now())
			call := &serverCall{Context: b.Context(), server: server}
			b.ReportAllocs()
			for seq := uint64(1); b.Loop(); seq++ {
				if server.sessions.admit(someone, session, seq, &call.marked) != admitted {
					b.Fatal(seq)
				}
				call.phase.Store(sole)
				call.state.Store(started)
				server.finish(call, reply != nil, reply, nil, true)
			}
		})
	}
}
