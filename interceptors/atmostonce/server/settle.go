package server

import (
	"context"
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
		return responseOf(s.settle(ctx, call, request)), nil
	}
	if s.config.BeforeUnary == nil {
		return settle(call, nil)
	}
	return s.before(call, call, nil, &grpc.UnaryServerInfo{FullMethod: onecallv1.Calls_Settle_FullMethodName}, settle)
}

// settle returns what became of the call that a request names, to the session and the
// principal of that call. call is the request's own.
func (s *Server) settle(ctx context.Context, call *serverCall, request *onecallv1.SettleRequest) settled {
	asker, err := soleIdentity(incomingValues(call.Context, atmostonce.CallKey))
	if err != nil || asker.Incarnation != s.config.Incarnation {
		return settled{}
	}
	asked, err := atmostonce.ParseIdentity(request.GetCall())
	if err != nil || asked.Incarnation != asker.Incarnation || asked.Session != asker.Session {
		return settled{}
	}
	if s.exempt(request.GetMethod()) { // its calls are not marked, and may run
		return settled{}
	}
	p, method := principalOf(ctx, s.sessions.seed), request.GetMethod()
	answer := s.settleOnce(ctx, p, asked, method)
	if answer.fate != fateRunning || !await(ctx, answer.ended, request.GetWait().AsDuration()) {
		return answer
	}
	return s.settleOnce(ctx, p, asked, method)
}

// settleOnce returns what became of a call now.
func (s *Server) settleOnce(ctx context.Context, p principal, asked atmostonce.Identity, method string) settled {
	if s.config.Ledger == nil {
		return s.sessions.settle(p, asked.Session, asked.Seq, method, nil)
	}
	// A copy of the call could run at another instance, unless the ledger has its key.
	taking := &marked{method: method}
	answer := s.sessions.settle(p, asked.Session, asked.Seq, method, taking)
	if taking.session == nil {
		return answer
	}
	became := fateUnknown
	defer func() { s.sessions.end(taking, became, nil) }() // also after a panic
	if fresh, err := s.config.Ledger.Begin(ctx, atmostonce.LedgerKey(asked)); err == nil && fresh {
		became = fateRefused
	}
	return settled{fate: became}
}

// await waits until a call has ended, for a time at most, and reports whether it has.
func await(ctx context.Context, ended <-chan struct{}, wait time.Duration) bool {
	if wait <= 0 {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
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
	// ended is closed when a call with fateRunning has ended.
	ended <-chan struct{}
}

// settle returns what became of a call. If its number is not marked, settle marks it, so
// that no copy of the call runs: as refused if taking is nil. Otherwise taking becomes a
// call that runs, and the caller must call [sessions.end] for it.
//
// It marks no number of a session that the server also knows in another scope, because
// the call could be of that one.
func (s *sessions) settle(p principal, id atmostonce.Session, seq uint64, method string, taking *marked) settled {
	key := sessionKey{id, p.scope()}
	shard := s.shardOf(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if known := shard.sessions[key]; known != nil && known.recent != nil {
		if found := s.find(known, seq, method); found.fate != fateUnknown {
			return found
		}
	}
	if shard.isShared(key) {
		return settled{}
	}
	known, result := s.mark(shard, key, p, seq)
	if result != admitted {
		return settled{}
	}
	shard.noteSettled(id, seq)
	if taking != nil {
		known.recent.begin(taking, shard, known, seq)
		return settled{}
	}
	known.recent.set(known.highest, seq, fateRefused)
	return settled{fate: fateRefused}
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
