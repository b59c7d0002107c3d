package server

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// Calls returns the description of the service onecall.v1.Calls, which answers what
// became of calls. Register it with a nil implementation.
//
// BeforeUnary runs before a call of it. Neither the admission nor the interceptors of the
// gRPC server do, so it also answers while the server drains. Who must not know learns
// nothing from an answer: see docs/at-most-once.md.
func (s *Server) Calls() *grpc.ServiceDesc {
	desc := onecallv1.Calls_ServiceDesc
	desc.Methods = []grpc.MethodDesc{{MethodName: "Settle", Handler: s.serveSettle}}
	return &desc
}

// serveSettle is the [grpc.MethodHandler] of Calls.Settle.
//
//nolint:revive // of which the context is the second parameter
func (s *Server) serveSettle(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	call := &serverCall{Context: ctx, server: s}
	settle := func(ctx context.Context, _ any) (any, error) {
		request := new(onecallv1.SettleRequest)
		if err := decode(request); err != nil {
			return nil, err
		}
		answer, err := s.settle(ctx, call, request)
		if err != nil {
			return nil, err
		}
		s.settled[answer.fate].Add(1)
		return responseOf(answer), nil
	}
	if s.config.BeforeUnary == nil {
		return settle(call, nil)
	}
	return s.before(call, call, nil, &grpc.UnaryServerInfo{FullMethod: onecallv1.Calls_Settle_FullMethodName}, settle)
}

// settle returns what became of the call that a request names, to the session and the
// principal of that call. call is the request's own.
func (s *Server) settle(ctx context.Context, call *serverCall, request *onecallv1.SettleRequest) (settled, error) {
	q, ok := s.questionOf(ctx, call, request)
	if !ok {
		return settled{}, nil
	}
	begun, limit := time.Now(), request.GetWait().AsDuration()
	for pause := shortestLook; ; pause = min(2*pause, longestLook) {
		answer, err := s.settleOnce(ctx, q)
		left, elsewhere := limit-time.Since(begun), answer.ended == nil
		if err != nil || answer.fate != fateRunning || left <= 0 || ctx.Err() != nil || elsewhere && s.draining.Load() {
			return answer, err
		}
		if elsewhere {
			left = min(left, pause)
		}
		await(ctx, answer.ended, left)
	}
}

// questionOf returns what a request asks, and whether it may be answered.
func (s *Server) questionOf(ctx context.Context, call *serverCall, request *onecallv1.SettleRequest) (q question, ok bool) {
	asker, err1 := soleIdentity(incomingValues(call.Context, atmostonce.CallKey))
	asked, err2 := atmostonce.ParseIdentity(request.GetCall())
	switch {
	case err1 != nil, err2 != nil:
		return q, false
	case asked.Incarnation != asker.Incarnation || asked.Session != asker.Session:
		return q, false
	case asked.Incarnation != s.config.Incarnation && s.ledger == nil:
		return q, false
	case s.exempt(request.GetMethod()): // its calls are not marked, and may run
		return q, false
	}
	return question{principal: principalOf(ctx, s.sessions.seed), call: asked, method: request.GetMethod(), age: ageOf(request)}, true
}

// While a call runs at another instance, the ledger is asked again after a time between
// these.
const shortestLook, longestLook = 10 * time.Millisecond, time.Second

// question is what a caller asks of a call.
type question struct {
	principal principal
	call      atmostonce.Identity
	method    string
	// age is how old the call is at most.
	age time.Duration
}

// ageOf returns the age of the call that a request says, or the longest if it says none.
func ageOf(request *onecallv1.SettleRequest) time.Duration {
	if age := request.GetAge(); age.IsValid() && age.AsDuration() >= 0 {
		return age.AsDuration()
	}
	return math.MaxInt64
}

// settleOnce returns what became of a call now.
func (s *Server) settleOnce(ctx context.Context, q question) (settled, error) {
	if q.call.Incarnation != s.config.Incarnation {
		return s.askLedger(ctx, q)
	}
	// With a ledger, the ledger alone says whether a copy could run, here or elsewhere.
	answer, shared := s.sessions.settle(q, s.config.Ledger == nil)
	if answer.fate == fateUnknown && !shared && s.ledger != nil {
		return s.askLedger(ctx, q)
	}
	return answer, nil
}

// await waits until a call has ended, for a time at most. ended may be nil.
func await(ctx context.Context, ended <-chan struct{}, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// responseOf returns an answer as it is sent.
func responseOf(answer settled) *onecallv1.SettleResponse {
	switch answer.fate {
	case fateRefused:
		return &onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_REFUSED}
	case fateRunning:
		return &onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_RUNNING}
	case fateOK:
		return &onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_EXECUTED, Status: []byte{}, Reply: answer.data}
	case fateFailed:
		return &onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_EXECUTED, Status: answer.data}
	case fateUnknown:
	}
	return &onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_UNKNOWN}
}

// settled is what the server knows of a call.
type settled struct {
	fate fate
	// data is that of [kept].
	data []byte
	// ended is closed when a call with fateRunning has ended. It is nil if the call runs
	// at another instance.
	ended <-chan struct{}
}

// settle returns what became of a call. If its number is not marked and marks is true,
// settle marks it, so that no copy of the call runs.
//
// shared is whether the server also knows the session in another scope. The call could be
// of that one, so its number is not marked.
func (s *sessions) settle(q question, marks bool) (answer settled, shared bool) {
	id, seq := q.call.Session, q.call.Seq
	key := sessionKey{id, q.principal.scope()}
	shard := s.shardOf(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if known := shard.sessions[key]; known != nil && known.recent != nil {
		if found := s.find(known, seq, q.method); found.fate != fateUnknown {
			return found, false
		}
	}
	if shared = shard.isShared(key); shared || !marks {
		return settled{}, shared
	}
	known, result := s.mark(shard, key, q.principal, seq)
	if result != admitted {
		return settled{}, false
	}
	shard.noteSettled(id, seq)
	known.recent.set(known.highest, seq, fateRefused)
	return settled{fate: fateRefused}, false
}

// find returns what a session knows of a number, if it is of a method or the method is
// not known any more. The shard's lock is held.
func (s *sessions) find(known *session, seq uint64, method string) settled {
	for call := known.recent.running; call != nil; call = call.older {
		if call.seq != seq {
			continue
		}
		if call.method != method {
			return settled{}
		}
		return settled{fate: fateRunning, ended: call.await()}
	}
	if end := known.recent.kept[seq]; end != nil && !s.expired(end, s.ticks.Load()) {
		if end.method != method {
			return settled{}
		}
		return settled{fate: end.fate, data: end.data}
	}
	return settled{fate: known.recent.fate(known.highest, seq)}
}

// await returns a channel that is closed when the call has ended. The shard's lock is
// held.
func (m *marked) await() <-chan struct{} {
	ended := m.ended.Load()
	if ended == nil {
		ended = new(make(chan struct{}))
		m.ended.Store(ended)
	}
	return *ended
}

// isAwaited reports whether a caller waits for the end of the call.
func (m *marked) isAwaited() bool { return m.ended.Load() != nil }

// isShared reports whether another scope has a session of the same id. The lock is held.
func (s *shard) isShared(key sessionKey) bool {
	for other := range s.sessions {
		if other.id == key.id && other.scope != key.scope {
			return true
		}
	}
	return false
}

// noteSettled keeps the numbers of a session up to one from running in another scope
// that has no such session yet. The lock is held.
func (s *shard) noteSettled(id atmostonce.Session, seq uint64) {
	if s.settled == nil {
		s.settled = make(map[atmostonce.Session]uint64)
	}
	s.settled[id] = max(s.settled[id], seq)
}
