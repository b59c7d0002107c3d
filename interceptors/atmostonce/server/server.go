package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// The defaults of [Config].
const (
	DefaultMaxSessionsPerPrincipal = 10_000
	DefaultMaxSessions             = 1_000_000
)

// Config is what a server is told.
type Config struct {
	// Incarnation is the instance's own, under which callers find it. It is
	// required: one that is fresh for each start of the process.
	Incarnation discovery.Incarnation
	// RequireIdentity refuses calls without an identity. Otherwise they are
	// served, any number of times, and counted.
	RequireIdentity bool
	// MaxSessionsPerPrincipal is how many sessions one principal may have:
	// what the peer's certificate names, else the peer's host. 0 is
	// [DefaultMaxSessionsPerPrincipal].
	MaxSessionsPerPrincipal int
	// MaxSessions is how many sessions all may have together. 0 is
	// [DefaultMaxSessions], which take some 60 MB when idle, and 1.3 GB when
	// every one of them called within the last minute.
	MaxSessions int
	// Ledger is asked before each identified call, beside the instance's own
	// memory, so that calls whose instance a proxy picked are served: those
	// bound to another incarnation too. When nil these are refused.
	Ledger atmostonce.Ledger
	// Exempt tells whether a service, by its full proto name, is served
	// without looking at identities. When nil, gRPC's own are: those below
	// grpc.health, grpc.reflection and grpc.channelz.
	Exempt func(service string) bool
	// BeforeUnary and BeforeStream, when not nil, run around the admission and the
	// handler of each call of a service that is not exempt, such as to authenticate
	// it. A call that they refuse takes no session, learns no rule and writes to no
	// ledger. A unary call's request is not read yet: it is nil to them. The context
	// that they call their handler with must derive from the one that they are
	// called with; handlers get it. [WithPrincipal] sets on it who the caller is.
	BeforeUnary  grpc.UnaryServerInterceptor
	BeforeStream grpc.StreamServerInterceptor
	// Started, when not nil, is called immediately before each handler of a service
	// that went through [Server.MarkStarted], with the context that the call arrived
	// with.
	Started func(ctx context.Context)
	// Handle, when not nil, calls the handlers of unary calls of such services, such
	// as to recover their panics.
	Handle func(ctx context.Context, req any, handler grpc.UnaryHandler) (any, error)
	// Log is where the server reports methods that it refuses because they
	// call no interceptor. When nil, [slog.Default].
	Log *slog.Logger
}

// Server is the server's half of the promise: it admits each identity once and
// tells with each error whether the handler ran. Make one with [New] for
// the life of an incarnation. Its methods are safe for all goroutines.
type Server struct {
	config      Config
	incarnation string
	sessions    *sessions

	draining  atomic.Bool
	drained   chan struct{} // closed when draining is set
	anonymous atomic.Uint64
	refused   map[atmostonce.Reason]*atomic.Uint64 // never changed

	marking sync.Mutex // taken to replace marked
	// marked has the paths of the streams that went through MarkStarted.
	marked atomic.Pointer[map[string]bool]

	stop    context.CancelFunc
	stopped chan struct{}
}

// New returns a server, which keeps a goroutine until [Server.Close]. A
// config that makes no sense is an error that names the field.
func New(config Config) (*Server, error) {
	s, err := newServer(config, time.Now)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.stopped = stop, make(chan struct{})
	go s.run(ctx)
	return s, nil
}

// newServer returns a server for which no time passes.
func newServer(config Config, now func() time.Time) (*Server, error) {
	switch {
	case config.Incarnation.IsZero():
		return nil, errors.New("atmostonce: Config.Incarnation is zero: draw one with discovery.NewIncarnation")
	case config.MaxSessionsPerPrincipal < 0:
		return nil, fmt.Errorf("atmostonce: Config.MaxSessionsPerPrincipal is %d: give 1 or more, or 0 for the default", config.MaxSessionsPerPrincipal)
	case config.MaxSessions < 0:
		return nil, fmt.Errorf("atmostonce: Config.MaxSessions is %d: give 1 or more, or 0 for the default", config.MaxSessions)
	}
	if config.MaxSessionsPerPrincipal == 0 {
		config.MaxSessionsPerPrincipal = DefaultMaxSessionsPerPrincipal
	}
	if config.MaxSessions == 0 {
		config.MaxSessions = DefaultMaxSessions
	}
	if config.Exempt == nil {
		config.Exempt = grpcOwn
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	s := &Server{
		config:      config,
		incarnation: config.Incarnation.String(),
		sessions:    newSessions(config.MaxSessionsPerPrincipal, config.MaxSessions, now),
		drained:     make(chan struct{}),
		refused:     make(map[atmostonce.Reason]*atomic.Uint64),
	}
	for _, reason := range atmostonce.Reasons() {
		s.refused[reason] = new(atomic.Uint64)
	}
	s.marked.Store(&map[string]bool{})
	return s, nil
}

func grpcOwn(service string) bool {
	return strings.HasPrefix(service, "grpc.health.") || strings.HasPrefix(service, "grpc.reflection.") || strings.HasPrefix(service, "grpc.channelz.")
}

// run lets time pass. It is what gives the memory of idle sessions back also
// when no calls come.
func (s *Server) run(ctx context.Context) {
	defer close(s.stopped)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			// One tick, however much time passed: idleness is never
			// overstated by time in which the process did not run.
			s.sessions.sweep(1)
		}
	}
}

// Close ends the server's goroutine and waits for it. Calls are admitted and
// refused as before, and nothing is forgotten any more: close it after the
// gRPC server has stopped. It may be called again.
func (s *Server) Close() {
	s.stop()
	<-s.stopped
}

// Drain makes identified calls that come from now on be refused with
// [atmostonce.Draining]. Each is marked first, so that no copy of it runs either. Handlers
// that run learn of it by [DrainOf]. It may be called again.
func (s *Server) Drain() {
	if s.draining.CompareAndSwap(false, true) {
		close(s.drained)
	}
}

// Stats is what a server has counted since it was made.
type Stats struct {
	// Sessions is how many there are now; Collapsed how many of these are
	// idle, so that only their highest number is kept.
	Sessions, Collapsed int
	// Principals is how many callers have these sessions.
	Principals int
	// Admitted is how many identities were marked, [atmostonce.Draining]'s included.
	Admitted uint64
	// WithoutIdentity is how many calls without an identity were served.
	WithoutIdentity uint64
	// Refused is how many calls were refused, for every reason.
	Refused map[atmostonce.Reason]uint64
}

// Stats gives the counters. It takes every lock in turn: call it to export
// them, not with each call.
func (s *Server) Stats() Stats {
	stats := Stats{WithoutIdentity: s.anonymous.Load(), Refused: make(map[atmostonce.Reason]uint64, len(s.refused))}
	stats.Sessions, stats.Collapsed, stats.Admitted = s.sessions.count()
	stats.Principals = s.sessions.quota.principals()
	for reason, count := range s.refused {
		stats.Refused[reason] = count.Load()
	}
	return stats
}

// mark notes the paths of a service's streams.
func (s *Server) mark(service string, streams []grpc.StreamDesc) {
	s.marking.Lock()
	defer s.marking.Unlock()
	marked := maps.Clone(*s.marked.Load())
	for _, stream := range streams {
		marked[pathOf(service, stream.StreamName)] = true
	}
	s.marked.Store(&marked)
}

// pathOf returns gRPC's path of a method.
func pathOf(service, method string) string { return "/" + service + "/" + method }
